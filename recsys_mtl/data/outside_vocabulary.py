"""How many rows of a log have values that the vocabularies of one_hot features lack."""

from collections.abc import Iterator
from typing import NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import Data
from recsys_mtl.data.dense_inputs import encode_one_hot
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.schema import UNREADABLE, DataError, in_one_line

_MOST_ROWS = 10_000


class OutsideVocabulary(NamedTuple):
    """What the first rows of a log hold beside the vocabulary of one feature."""

    feature: str
    rows: int
    """That were looked at."""
    outside: int
    """Of them, those with a value that is not in the vocabulary; nulls are none."""
    examples: tuple[str | int, ...]
    """A few of these values, the most frequent first."""


def outside_vocabulary(manifest: Manifest, data: Data) -> Iterator[OutsideVocabulary]:
    """Look at the first rows of a log; yields the features with a value outside.

    Raises:
        DataError: the rows cannot be read.
    """
    features = data.one_hot_features()
    if not features:
        return
    rows = _first_rows(manifest, [feature.column or name for name, feature in features])
    for name, feature in features:
        column = rows.column(feature.column or name).combine_chunks()
        outside = encode_one_hot(column, feature.vocabulary) == len(feature.vocabulary)
        if outside.any():
            counts = column.filter(pa.array(outside)).value_counts().to_pylist()
            counts.sort(key=lambda count: -count["counts"])
            examples = tuple(count["values"] for count in counts[:3])
            yield OutsideVocabulary(name, len(column), int(outside.sum()), examples)


def _first_rows(manifest: Manifest, columns: list[str]) -> pa.Table:
    filesystem, _ = fsspec.core.url_to_fs(manifest.url)
    group = manifest.row_groups[0]
    try:
        with filesystem.open(group.file, "rb") as handle:
            batches = pq.ParquetFile(handle).iter_batches(
                _MOST_ROWS, row_groups=[group.index], columns=list(dict.fromkeys(columns))
            )
            return pa.Table.from_batches([next(batches)])
    except UNREADABLE as error:
        raise DataError(
            f"{group.file}, row group {group.index}: cannot be read: {in_one_line(error)}; mend "
            "or remove the file"
        ) from None
