"""A bounded sample of a click log, and what each column holds as far as the sample shows it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_mtl.data.manifest import list_files
from recsys_mtl.data.schema import UNREADABLE, DataError, in_one_line, is_list

_SAMPLE_ROWS = 100_000
_ROW_GROUPS = 32
"""Read for the sample, spread over the whole log."""


@dataclass(frozen=True)
class LogSample:
    """Rows from all over a click log."""

    table: pa.Table
    """At most 100,000 rows."""
    rows: int
    """Of the whole log."""
    files: int
    largest: dict[str, int]
    """For each integer column, the largest value by the footers of the whole log."""


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a sample."""

    name: str
    type: pa.DataType
    values: pa.Array
    """Without nulls; of a list column, the items of all lists."""
    null_share: float
    distinct: int
    """In the sample."""
    estimated_distinct: int
    """In the whole log, by Chao's estimate: d + f1^2 / (2 f2), from the f1 values that the sample
    holds once and the f2 that it holds twice."""


def read_sample(url: str) -> LogSample:
    """Read the footers of a log, and a sample of its rows.

    Raises:
        DataError: nothing is there, or it cannot be read.
    """
    filesystem, files = list_files(url)
    places: list[tuple[str, int]] = []
    rows, largest = 0, dict[str, int]()
    for file in files:
        try:
            with filesystem.open(file, "rb") as handle:
                footer = pq.ParquetFile(handle).metadata
        except UNREADABLE as error:
            raise DataError(
                f"{file} cannot be read as Parquet: {in_one_line(error)}; mend or remove it"
            ) from None
        rows += footer.num_rows
        places += [(file, group) for group in range(footer.num_row_groups)]
        _note_largest(footer, largest)
    if not rows:
        raise DataError(f"{url} holds no rows; give a log with at least one")
    step = max(1, len(places) // _ROW_GROUPS)
    chosen = places[::step]
    most = -(-_SAMPLE_ROWS // len(chosen))
    tables = []
    for file, group in chosen:
        try:
            with filesystem.open(file, "rb") as handle:
                table = pq.ParquetFile(handle).read_row_group(group, use_threads=False)
        except UNREADABLE as error:
            raise DataError(f"{file} cannot be read: {in_one_line(error)}; mend it") from None
        # A slice would keep the whole row group in memory.
        every = max(1, len(table) // most)
        tables.append(table.take(np.arange(0, len(table), every)[:most]))
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"{url}: its files disagree about a column's type ({in_one_line(error)}); write each "
            "column with one type"
        ) from None
    return LogSample(table, rows, len(files), largest)


def profile(sample: LogSample, name: str) -> ColumnProfile:
    """Count what a column holds."""
    column = sample.table[name].combine_chunks()
    nulls = column.null_count / max(1, len(column))
    kind = column.type
    values = pc.list_flatten(column) if is_list(kind) else column
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    values = values.drop_null()
    try:
        counts = values.value_counts().field("counts").to_numpy()
    except pa.ArrowNotImplementedError:  # a struct, a map: nothing is counted
        counts = np.empty(0, np.int64)
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    unseen = once * once / (2 * max(1, twice)) if len(sample.table) < sample.rows else 0
    return ColumnProfile(
        name=name,
        type=kind,
        values=values,
        null_share=nulls,
        distinct=len(counts),
        estimated_distinct=min(int(len(counts) + unseen), sample.rows),
    )


def _note_largest(footer: pq.FileMetaData, largest: dict[str, int]) -> None:
    for group in range(footer.num_row_groups):
        for place in range(footer.num_columns):
            column = footer.row_group(group).column(place)
            statistics = column.statistics
            if statistics is not None and statistics.has_min_max and type(statistics.max) is int:
                # A list's items stand below its name.
                name = column.path_in_schema.partition(".")[0]
                largest[name] = max(largest.get(name, statistics.max), statistics.max)
