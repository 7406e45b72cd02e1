"""The trace of a run: one row per training step, as a folder of Parquet parts.

A part is `part-<attempt>-<first step>.parquet`. An attempt is one uninterrupted stretch of
training; a restart begins the next, at the step of its checkpoint, and its rows replace those the
earlier attempts wrote from that step on. Nothing is ever rewritten: the replacing is done on
reading, from the names alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_mtl.metrics.columns import Column, ColumnKind

_TYPES: dict[ColumnKind, pa.DataType] = {
    "count": pa.int64(),
    "flag": pa.bool_(),
    "number": pa.float64(),
}

# Names that do not match, such as those of parts still being written, are not read.
_PART = re.compile(r"part-(?P<attempt>\d{4,})-(?P<first_step>\d{10,})\.parquet")


class _Part(NamedTuple):
    attempt: int
    first_step: int
    path: str


class TraceWriter:
    """Appends the steps of one attempt to a trace.

    Args:
        url: the trace's folder: a local path or whatever fsspec opens (`s3://bucket/run/trace`).
            The first flush makes it when missing, so that a refused start leaves nothing.
        attempt: from `next_attempt`.
        columns: of every row, among them `step` and `attempt`.
    """

    def __init__(self, url: str, attempt: int, columns: Sequence[Column]) -> None:
        self._filesystem, self._folder = fsspec.core.url_to_fs(url)
        self._attempt = attempt
        self._schema = pa.schema([(column.name, _TYPES[column.kind]) for column in columns])
        self._last_step = -1
        self._rows: list[Mapping[str, Any]] = []

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keeps rows until the next `flush`.

        Args:
            rows: one per step in ascending order, of Python numbers.

        Raises:
            ValueError: a row has other columns, or a step does not follow the one before. The rows
                before it are kept.
        """
        for row in rows:
            self._check(row)
            self._last_step = row["step"]
            self._rows.append(dict(row))

    def flush(self) -> None:
        """Writes the rows kept since the last flush as one part; without rows, it does nothing.

        The part is written under a name that readers skip and then moved, so that a kill leaves
        no half a part. When writing fails, the rows are kept for the next flush.
        """
        if not self._rows:
            return
        self._filesystem.makedirs(self._folder, exist_ok=True)
        name = f"part-{self._attempt:04d}-{self._rows[0]['step']:010d}.parquet"
        path = f"{self._folder}/{name}"
        with self._filesystem.open(f"{path}.tmp", "wb") as file:
            pq.write_table(pa.Table.from_pylist(self._rows, schema=self._schema), file)
        self._filesystem.mv(f"{path}.tmp", path)
        self._rows = []

    def _check(self, row: Mapping[str, Any]) -> None:
        if row.keys() != set(self._schema.names):
            raise ValueError(
                f"a row does not have the trace's columns: "
                f"{sorted(row.keys() ^ set(self._schema.names))} are not in both; give every row "
                "the same keys, with NaN for what was not measured"
            )
        if row["attempt"] != self._attempt:
            raise ValueError(
                f"a row of attempt {row['attempt']} was given to the trace of attempt "
                f"{self._attempt}; give each attempt its own TraceWriter"
            )
        if row["step"] <= self._last_step:
            raise ValueError(
                f"step {row['step']} was given to the trace after step {self._last_step}; "
                "append steps in ascending order, and start a new attempt to go back"
            )


def next_attempt(url: str) -> int:
    """Returns the number of the attempt that is about to start: one more than the trace's highest.

    Args:
        url: the trace's folder, as for `TraceWriter`; it may be missing.
    """
    return max((part.attempt for part in _parts(url)), default=0) + 1


def read_trace(url: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a trace as training went in the end: one row per step, sorted by step.

    A row is left out when a later attempt started at its step or before it.

    Args:
        url: the trace's folder, as for `TraceWriter`.
        columns: the columns to read, in this order; all of them when None. A column that only
            some attempts have is null in the others' rows.

    Raises:
        FileNotFoundError: there is no such folder, or no part in it.
        ValueError: a part is not readable as Parquet, or no part has one of `columns`.
    """
    parts = _parts(url)
    if not parts:
        raise FileNotFoundError(
            f"there is no trace in {url}: no file there is named part-*.parquet; give the folder "
            "of a run that has written its first log interval"
        )
    filesystem, _ = fsspec.core.url_to_fs(url)
    wanted = None if columns is None else list(dict.fromkeys([*columns, "step"]))
    tables = []
    for part in parts:
        end = _replaced_from(part.attempt, parts)
        if part.first_step < end:
            tables.append(_read_part(filesystem, part, wanted, end))
    # Parts come by attempt and first step; without the replaced rows that is the order of steps.
    table = pa.concat_tables(tables, promote_options="default")
    if columns is None:
        return table
    unknown = sorted(set(columns) - set(table.column_names))
    if unknown:
        raise ValueError(f"the trace in {url} has no column {unknown}; read it without `columns`")
    return table.select(list(columns))


def _parts(url: str) -> list[_Part]:
    filesystem, folder = fsspec.core.url_to_fs(url)
    # Object stores remember listings, and another process may have written since.
    filesystem.invalidate_cache()
    if not filesystem.isdir(folder):
        return []
    paths = filesystem.ls(folder, detail=False)
    matches = ((path, _PART.fullmatch(path.rsplit("/", 1)[-1])) for path in paths)
    return sorted(
        _Part(int(match["attempt"]), int(match["first_step"]), path)
        for path, match in matches
        if match
    )


def _replaced_from(attempt: int, parts: list[_Part]) -> float:
    """Returns the first step that a later attempt wrote; infinite when there is none."""
    later = (part.first_step for part in parts if part.attempt > attempt)
    return min(later, default=float("inf"))


def _read_part(filesystem: Any, part: _Part, columns: list[str] | None, end: float) -> pa.Table:
    try:
        with filesystem.open(part.path, "rb") as file:
            # Without threads: pyarrow's own hold the Python file a moment longer than the table
            # takes, and a process that ends in that moment is aborted (seen in every third).
            table = pq.ParquetFile(file).read(columns=columns, use_threads=False)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{part.path} is not a readable part of a trace: {error}; move it away to read the rest"
        ) from error
    return table.filter(pc.less(table["step"], end))
