"""The sorted list of a click log's files and row groups, read from Parquet footers only.

A column that a label's window looks at is read, too, where the footers do not say when it ends.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import Data
from recsys_mtl.data.event_times import (
    EventTimes,
    event_times_of_file,
    join,
    refuse_logs_without_times,
)
from recsys_mtl.data.keys import key_family, no_keys
from recsys_mtl.data.labels import LARGEST_WEIGHT, unusable_value
from recsys_mtl.data.schema import (
    UNREADABLE,
    DataError,
    check_column_is_there,
    column_families,
    in_one_line,
)

_FOOTERS_AT_ONCE = 16  # a footer is one small read: latency, not bandwidth, on an object store


@dataclass(frozen=True)
class RowGroup:
    """One row group: the unit of decoding."""

    file: str
    """Path on the manifest's file system."""
    index: int
    """Its place in the file."""
    rows: int
    """Rows in it, at least one."""


@dataclass(frozen=True)
class Manifest:
    """Every row of a click log, as (file, row group, rows)."""

    url: str
    """As the configuration gives it."""
    row_groups: tuple[RowGroup, ...]
    """Sorted by file, then by place in the file; empty row groups left out."""
    digest: str
    """SHA-256 of the files' names below the folder they share and of their footers: a log that was
    moved keeps it, a log with other row counts, column sizes or statistics does not."""
    column_families: Mapping[str, str] = field(default_factory=dict)
    """What each column read holds, by `<place in the configuration>:<column>`, as
    `data.schema.column_families` says it; `null` where no file has a value."""
    empty_files: tuple[str, ...] = ()
    """Files without a row, sorted."""
    event_times: Mapping[str, EventTimes] = field(default_factory=dict)
    """Column to the log's first and last event, for every event_time of a label."""
    footer_digests: Mapping[str, str] = field(default_factory=dict)
    """File that has rows to the SHA-256 of its footer, which a copy of the file shares."""

    @cached_property
    def rows(self) -> int:
        """Rows of the whole log."""
        return sum(group.rows for group in self.row_groups)

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Files that have rows, sorted."""
        return tuple(dict.fromkeys(group.file for group in self.row_groups))


def read_manifest(
    url: str,
    data: Data,
    *,
    labelled: bool = True,
    others: Mapping[str, str] | None = None,
    keys: Mapping[str, str] | None = None,
) -> Manifest:
    """List `url` (file, folder or glob on any fsspec URL) and check every footer.

    Args:
        labelled: False for a log that is only scored: its labels are not looked at.
        others: columns that every file must have besides, each with the argument that names it.
        keys: the same, of columns by whose values rows are grouped.

    Raises:
        DataError: nothing there, no rows, an unreadable file, a column that is missing, mistyped
            or typed otherwise than in the first file; an event_time that is null throughout;
            unless data.on_error is `skip`, a label, weight or time that the statistics show to be
            none.
    """
    filesystem, files = list_files(url)

    def read(file: str) -> _Footer:
        return _read_footer(filesystem, file, data, labelled, others or {}, keys or {})

    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        footers = list(pool.map(read, files))
    families = _one_family_per_column(footers)
    groups = [
        RowGroup(footer.file, index, rows)
        for footer in footers
        for index, rows in enumerate(footer.row_counts)
        if rows
    ]
    if not groups:
        raise DataError(
            f"{url} holds no rows in {len(files)} file(s); give a log with at least one"
        )
    event_times = _join_over_files(footers)
    if labelled:
        refuse_logs_without_times(event_times, data, url)
    return Manifest(
        url=url,
        row_groups=tuple(groups),
        digest=_digest(footers),
        column_families=families,
        empty_files=tuple(footer.file for footer in footers if not any(footer.row_counts)),
        event_times=event_times,
        footer_digests={f.file: f.digest for f in footers if any(f.row_counts)},
    )


@dataclass(frozen=True)
class _Footer:
    """What the manifest takes from one file."""

    file: str
    row_counts: tuple[int, ...]
    families: dict[str, str]
    digest: str
    event_times: dict[str, EventTimes]


def _read_footer(
    filesystem: fsspec.AbstractFileSystem,
    file: str,
    data: Data,
    labelled: bool,
    others: Mapping[str, str],
    keys: Mapping[str, str],
) -> _Footer:
    """One file's footer, checked; the arguments are those of `read_manifest`."""
    try:
        with filesystem.open(file, "rb") as handle:
            parquet = pq.ParquetFile(handle)
            footer, schema = parquet.metadata, parquet.schema_arrow
            families = column_families(schema, data, file, labelled=labelled)
            for column, place in others.items():
                check_column_is_there(schema, column, place, file)
            for column, place in keys.items():
                families[f"{place}:{column}"] = _key_family(schema, column, place, file)
            if labelled and data.on_error == "fail":
                _check_label_statistics(footer, data, file)
            event_times = event_times_of_file(parquet, data, file) if labelled else {}
            digest = _footer_digest(handle)
    except UNREADABLE as error:
        raise DataError(
            f"{file} cannot be read as Parquet: {in_one_line(error)}; mend or remove it"
        ) from None
    groups = (footer.row_group(index).num_rows for index in range(footer.num_row_groups))
    return _Footer(file, tuple(groups), families, digest, event_times)


def _digest(footers: Sequence[_Footer]) -> str:
    """SHA-256 of the files' names below the folder they share, and of their footers."""
    root, digest = common_folder([footer.file for footer in footers]), hashlib.sha256()
    for footer in footers:
        digest.update(f"{footer.file.removeprefix(root)}\0{footer.digest}\n".encode())
    return digest.hexdigest()


def _footer_digest(handle: IO[bytes]) -> str:
    """SHA-256 of the footer's bytes. A Parquet file ends with them, their length and "PAR1"."""
    handle.seek(-8, 2)
    length = int.from_bytes(handle.read(4), "little")
    handle.seek(-8 - length, 2)
    return hashlib.sha256(handle.read(length)).hexdigest()


def _key_family(schema: pa.Schema, column: str, place: str, file: str) -> str:
    kind = check_column_is_there(schema, column, place, file)
    family = key_family(kind)
    if family is None:
        raise DataError(f"{place}: {no_keys(kind, column)}")
    return family


def _one_family_per_column(footers: list[_Footer]) -> dict[str, str]:
    """What each column holds in all files that have a value of it.

    The same value must get the same id in every file: integers and strings do not mix.
    """
    first: dict[str, tuple[str, str]] = {}
    for footer in footers:
        for use, family in footer.families.items():
            earlier_file, earlier = first.setdefault(use, (footer.file, family))
            if earlier == "null":
                first[use] = (footer.file, family)
            elif family not in (earlier, "null"):
                place, _, column = use.partition(":")
                raise DataError(
                    f"column {column!r} ({place}) holds type {family} in {footer.file} but "
                    f"{earlier} in {earlier_file}; write it with one type"
                )
    return {use: family for use, (_, family) in first.items()}


def list_files(url: str) -> tuple[fsspec.AbstractFileSystem, list[str]]:
    """The Parquet files of a log, sorted, and where they lie.

    Raises:
        DataError: there is none, or nobody can list them.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        filesystem.invalidate_cache()
        if filesystem.isfile(path):
            return filesystem, [path]
        if filesystem.isdir(path):
            root = path
            found = [f for f in filesystem.find(path) if f.endswith((".parquet", ".pq"))]
        else:
            root = re.split(r"[*?\[]", path)[0].rpartition("/")[0]
            found = [f for f in filesystem.glob(path) if filesystem.isfile(f)]
    except (OSError, ValueError, ImportError) as error:
        raise DataError(
            f"{url} cannot be listed: {in_one_line(error)}; give a path or URL that can"
        ) from None
    files = sorted(f for f in found if not _is_hidden(f, root))
    if not files:
        raise DataError(f"{url}: no Parquet file there; give a file, a folder or a glob of files")
    return filesystem, files


def _is_hidden(file: str, root: str) -> bool:
    """Writers leave _SUCCESS, _temporary/ and .crc beside the data."""
    return any(part.startswith(("_", ".")) for part in file.removeprefix(root).split("/"))


def common_folder(files: list[str]) -> str:
    """The deepest folder that holds all the (sorted) files."""
    first, last = files[0].split("/")[:-1], files[-1].split("/")[:-1]
    depth = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return "/".join(first[: min(len(first), len(last)) if depth is None else depth])


def _join_over_files(footers: list[_Footer]) -> dict[str, EventTimes]:
    found = {
        column: join(f.event_times[column] for f in footers if column in f.event_times)
        for column in {column for footer in footers for column in footer.event_times}
    }
    return {column: times for column, times in found.items() if times is not None}


def _check_label_statistics(footer: pq.FileMetaData, data: Data, file: str) -> None:
    """Refuse a label outside 0..1, or a weight that is none, before training where the footer can
    tell."""
    place_of = {footer.schema.column(i).path: i for i in range(footer.num_columns)}
    for task, label in data.labels.items():
        for setting, column in label.columns():
            if setting == "event_time":
                continue
            for group in range(footer.num_row_groups):
                statistics = footer.row_group(group).column(place_of[column]).statistics
                value = _unusable_extreme(statistics, setting)
                if value is not None:
                    reason = "label" if setting == "column" else setting
                    source = f"{file}, row group {group}"
                    raise DataError(unusable_value(reason, column, task, f"{value!r}", source))


def _unusable_extreme(statistics: pq.Statistics | None, setting: str) -> Any:
    """The smallest or the largest value, if a column for this setting must not hold it."""
    if statistics is None or not statistics.has_min_max:
        return None
    if isinstance(statistics.min, bytes):  # float16: pyarrow leaves them undecoded
        return None
    for value in (statistics.min, statistics.max):
        is_weight = setting == "sample_weight"
        if not (0 <= value <= LARGEST_WEIGHT if is_weight else float(value) in (0.0, 1.0)):
            return value
    return None
