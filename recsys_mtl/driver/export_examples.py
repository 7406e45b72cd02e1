"""Rows with the probabilities to expect, for whoever reimplements a bundle's scorer."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import FeatureColumns, UserError
from recsys_mtl.data.manifest import list_files
from recsys_mtl.data.schema import (
    UNREADABLE,
    feature_columns,
    in_one_line,
    is_list,
    probability_column,
)
from recsys_mtl.serving.bundle import EXAMPLES
from recsys_mtl.serving.rows import RowsError
from recsys_mtl.serving.scorer import Scorer

_ROWS = 100


def write_examples(data: FeatureColumns, folder: Path, url: str) -> None:
    """Write a log's first rows, one row of nulls and one of empty lists, with what to expect."""
    columns = feature_columns(data.features)
    rows = _first_rows(url, columns)
    kinds = {field.name: field.type for field in rows.schema}
    nulls = {name: pa.nulls(1, kind) for name, kind in kinds.items()}
    empty = {
        name: pa.array([[]], kind)
        for name, kind in kinds.items()
        if is_list(kind) and not pa.types.is_fixed_size_list(kind)
    }
    edges = [pa.table(nulls), pa.table(nulls | empty)][: 2 if empty else 1]
    rows = pa.concat_tables([pa.table({n: rows.column(n) for n in columns}), *edges])
    try:
        scores = Scorer.load(folder, verify=False).score(rows)
    except RowsError as error:
        raise UserError(f"the log of examples, {url}: {error}") from None
    for task, probabilities in scores.items():
        rows = rows.append_column(probability_column(task), pa.array(probabilities))
    pq.write_table(rows, folder / EXAMPLES)


def _first_rows(url: str, columns: list[str]) -> pa.Table:
    """The first rows of a log, in the columns that features read, as they stand there.

    Raises:
        UserError: there is no log, it cannot be read, or it lacks a column.
    """
    filesystem, files = list_files(url)
    for file in files:
        try:
            with filesystem.open(file, "rb") as handle:
                parquet = pq.ParquetFile(handle)
                missing = [name for name in columns if name not in parquet.schema_arrow.names]
                if missing:
                    raise UserError(
                        f"column {missing[0]!r} is missing in {file}; the bundle's examples need "
                        "every feature: give --examples another log"
                    )
                for batch in parquet.iter_batches(_ROWS, columns=columns):
                    if batch.num_rows:
                        return pa.Table.from_batches([batch])
        except UNREADABLE as error:
            raise UserError(
                f"{file} cannot be read: {in_one_line(error)}; the bundle's examples come from "
                "there: give --examples another log"
            ) from None
    raise UserError(f"{url} holds no rows for the bundle's examples; give --examples another log")
