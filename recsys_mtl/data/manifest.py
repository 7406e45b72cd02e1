"""The sorted list of a click log's files and row groups, read from Parquet footers only."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import IO

import fsspec
import pyarrow.parquet as pq

from recsys_mtl.config import Data
from recsys_mtl.data.schema import UNREADABLE, DataError, column_families, in_one_line

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

    @cached_property
    def rows(self) -> int:
        """Rows of the whole log."""
        return sum(group.rows for group in self.row_groups)

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Files that have rows, sorted."""
        return tuple(dict.fromkeys(group.file for group in self.row_groups))


def read_manifest(url: str, data: Data) -> Manifest:
    """List `url` (file, folder or glob on any fsspec URL) and check every footer.

    Raises:
        DataError: nothing there, no rows, an unreadable file, a column that is missing, mistyped
            or typed otherwise than in the first file; unless data.on_error is `skip`, a label
            outside 0 and 1 by the statistics.
    """
    filesystem, files = list_files(url)

    def read_footer(file: str) -> _Footer:
        try:
            with filesystem.open(file, "rb") as handle:
                parquet = pq.ParquetFile(handle)
                footer, schema = parquet.metadata, parquet.schema_arrow
                digest = _footer_digest(handle)
        except UNREADABLE as error:
            raise DataError(
                f"{file} cannot be read as Parquet: {in_one_line(error)}; mend or remove it"
            ) from None
        families = column_families(schema, data, file)
        if data.on_error == "fail":
            _check_label_statistics(footer, data, file)
        groups = (footer.row_group(index).num_rows for index in range(footer.num_row_groups))
        return _Footer(file, tuple(groups), families, digest)

    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        footers = list(pool.map(read_footer, files))
    _check_one_type_per_column(footers)
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
    root, digest = _common_folder(files), hashlib.sha256()
    for footer in footers:
        digest.update(f"{footer.file.removeprefix(root)}\0{footer.digest}\n".encode())
    return Manifest(url, tuple(groups), digest.hexdigest())


@dataclass(frozen=True)
class _Footer:
    """What the manifest takes from one file."""

    file: str
    row_counts: tuple[int, ...]
    families: dict[str, str]
    digest: str


def _footer_digest(handle: IO[bytes]) -> str:
    """SHA-256 of the footer's bytes. A Parquet file ends with them, their length and "PAR1"."""
    handle.seek(-8, 2)
    length = int.from_bytes(handle.read(4), "little")
    handle.seek(-8 - length, 2)
    return hashlib.sha256(handle.read(length)).hexdigest()


def _check_one_type_per_column(footers: list[_Footer]) -> None:
    """The same value must get the same id in every file: integers and strings do not mix."""
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


def list_files(url: str) -> tuple[fsspec.AbstractFileSystem, list[str]]:
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


def _common_folder(files: list[str]) -> str:
    """The deepest folder that holds all the (sorted) files."""
    first, last = files[0].split("/")[:-1], files[-1].split("/")[:-1]
    depth = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return "/".join(first[: min(len(first), len(last)) if depth is None else depth])


def _check_label_statistics(footer: pq.FileMetaData, data: Data, file: str) -> None:
    """Refuse a label outside 0..1 before training where the footer can tell."""
    place_of = {footer.schema.column(i).path: i for i in range(footer.num_columns)}
    for task, column in data.labels.items():
        for group in range(footer.num_row_groups):
            statistics = footer.row_group(group).column(place_of[column]).statistics
            if statistics is None or not statistics.has_min_max:
                continue
            if isinstance(statistics.min, bytes):  # float16: pyarrow leaves them undecoded
                continue
            for value in (statistics.min, statistics.max):
                if float(value) not in (0.0, 1.0):
                    raise DataError(
                        f"label {column!r} (data.labels.{task}) has the value {value!r} in "
                        f"{file}, row group {group}; a label is 0, 1 or null "
                        "(data.on_error: skip leaves such rows out)"
                    )
