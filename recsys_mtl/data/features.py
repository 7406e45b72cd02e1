"""Arrow columns to numpy: ids of table rows, numbers, places in vocabularies, labels and masks.

n rows, I id features, T tasks, C columns read, K key columns, R reasons to reject a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_mtl.config import Data, FeatureColumns
from recsys_mtl.data.dense_inputs import encode_dense, encode_one_hot
from recsys_mtl.data.event_times import EventTimes
from recsys_mtl.data.ids import rows_of_integers, rows_of_strings
from recsys_mtl.data.keys import keys_of
from recsys_mtl.data.labels import RULES, encode_labels
from recsys_mtl.data.numbers import fits_float32, numbers
from recsys_mtl.data.schema import columns_read, feature_columns, is_list

REJECT_REASONS = ("unreadable", *RULES)
"""Why rows are left out with data.on_error `skip`: their row group cannot be read, or a label, or
what says how much it counts, is not usable."""
REJECTED = "__rejected__"
"""Column that the reader adds: True for rows of a row group that could not be read."""


@dataclass(frozen=True)
class TableRows:
    """Where an id feature's values lie in its embedding table."""

    for_values: int
    """Rows 0 to for_values - 1."""
    missing: int
    """The feature's own row for null, behind those."""


def table_sizes(data: FeatureColumns) -> dict[str, int]:
    """Rows of each table, by the feature that owns it: its `rows` and one for nulls per sharer."""
    sharers = [feature.table or name for name, feature in data.id_features()]
    return {
        name: feature.rows + sharers.count(name)
        for name, feature in data.id_features()
        if feature.rows is not None
    }


def table_rows(data: FeatureColumns) -> dict[str, TableRows]:
    """For each id feature, the rows of its own or shared table."""
    rows_of = {n: f.rows for n, f in data.id_features() if f.rows is not None}
    places: dict[str, TableRows] = {}
    sharers: dict[str, int] = dict.fromkeys(rows_of, 0)
    for name, feature in data.id_features():
        owner = feature.table or name
        places[name] = TableRows(rows_of[owner], rows_of[owner] + sharers[owner])
        sharers[owner] += 1
    return places


@dataclass(frozen=True)
class Ragged:
    """n bags of ids: bag i is values[offsets[i]:offsets[i + 1]]."""

    values: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def slice(self, start: int, stop: int) -> "Ragged":
        """Bags start to stop (exclusive), sharing the values."""
        offsets = self.offsets[start : stop + 1]
        return Ragged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[n]"""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class EncodedFeatures:
    """What the model reads of n rows."""

    ids: tuple[Ragged, ...]
    """I features, n bags each."""
    dense: NDArray[np.float32]
    """[n, dense features]"""
    places: NDArray[np.int16]
    """[n, one_hot features] Places of the values in their vocabularies."""

    def slice(self, start: int, stop: int) -> "EncodedFeatures":
        """Rows start to stop (exclusive)."""
        return EncodedFeatures(
            tuple(bags.slice(start, stop) for bags in self.ids),
            self.dense[start:stop],
            self.places[start:stop],
        )


@dataclass(frozen=True)
class EncodedRows:
    """n rows of the click log, ready to be stacked into a batch."""

    ids: tuple[Ragged, ...]
    """I features, n bags each."""
    dense: NDArray[np.float32]
    """[n, dense features]"""
    places: NDArray[np.int16]
    """[n, one_hot features] Places of the values in their vocabularies."""
    labels: NDArray[np.float32]
    """[n, T], 0 where masked."""
    label_mask: NDArray[np.bool_]
    """[n, T] True where the label is known and counts."""
    label_weights: NDArray[np.float32] | None
    """[n, T] How much the row counts for the task, 0 where masked; None where no task has weights
    of its own."""
    nulls: NDArray[np.bool_]
    """[n, C] True where a column was null or not finite, or a list in it held a null."""
    rejected: NDArray[np.bool_]
    """[n, R] True where a row is left out for that one of `REJECT_REASONS`, at most one per row;
    all its labels are masked."""
    keys: NDArray[np.uint64]
    """[n, K] The key of each row's value in each of the key columns asked for."""

    def slice(self, start: int, stop: int) -> "EncodedRows":
        """Rows start to stop (exclusive)."""
        return EncodedRows(
            tuple(bags.slice(start, stop) for bags in self.ids),
            self.dense[start:stop],
            self.places[start:stop],
            self.labels[start:stop],
            self.label_mask[start:stop],
            None if self.label_weights is None else self.label_weights[start:stop],
            self.nulls[start:stop],
            self.rejected[start:stop],
            self.keys[start:stop],
        )


def encode(
    table: pa.Table,
    data: Data,
    source: str,
    event_times: Mapping[str, EventTimes] = MappingProxyType({}),
    key_columns: Sequence[str] = (),
) -> EncodedRows:
    """The rows of `table`, which has the columns read and, for rows to reject, `REJECTED`.

    Args:
        source: the files that the rows are from, for messages.
        event_times: of the whole log, by column; for every column that a window looks at.
        key_columns: K columns whose values become keys.

    Raises:
        DataError: a label, or what says how much it counts, is not usable while data.on_error is
            `fail`.
    """
    features = encode_features(table, data)
    columns = {name: table.column(name).combine_chunks() for name in columns_read(data)}
    labels = encode_labels(columns, data, event_times, source)
    unreadable = table.column(REJECTED).to_numpy()
    rejected = _one_reason_per_row({"unreadable": unreadable, **labels.unusable})
    usable = ~rejected.any(axis=1, keepdims=True)
    label_mask = labels.mask & usable
    weights = labels.weights
    nulls = np.stack([_holds_null(column) for column in columns.values()], axis=1)
    return EncodedRows(
        ids=features.ids,
        dense=features.dense,
        places=features.places,
        labels=np.where(label_mask, labels.values, 0.0).astype(np.float32),
        label_mask=label_mask,
        label_weights=None if weights is None else np.where(label_mask, weights, np.float32(0)),
        nulls=nulls & usable,
        rejected=rejected,
        keys=_stacked_keys(table, key_columns),
    )


def _stacked_keys(table: pa.Table, key_columns: Sequence[str]) -> NDArray[np.uint64]:
    """[n, K]"""
    keys = np.zeros((table.num_rows, len(key_columns)), dtype=np.uint64)
    for place, name in enumerate(key_columns):
        keys[:, place] = keys_of(table.column(name).combine_chunks(), name)
    return keys


def _one_reason_per_row(reasons: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """[n, R] The first of `REJECT_REASONS` that is true of a row, and no other."""
    rejected = np.stack([reasons[reason] for reason in REJECT_REASONS], axis=1)
    earlier = np.logical_or.accumulate(rejected, axis=1)
    rejected[:, 1:] &= ~earlier[:, :-1]
    return rejected


def encode_features(table: pa.Table, data: FeatureColumns) -> EncodedFeatures:
    """What the model reads of the rows of `table`, which has every feature's column.

    Training, prediction and a served model all encode by this function.
    """
    columns = {
        column: table.column(column).combine_chunks() for column in feature_columns(data.features)
    }
    rows = table_rows(data)
    dense = [encode_dense(columns[f.column or name], f) for name, f in data.dense_features()]
    places = [
        encode_one_hot(columns[f.column or name], f.vocabulary)
        for name, f in data.one_hot_features()
    ]
    return EncodedFeatures(
        ids=tuple(
            _encode_ids(columns[feature.column or name], rows[name])
            for name, feature in data.id_features()
        ),
        dense=_side_by_side(dense, table.num_rows, np.float32),
        places=_side_by_side(places, table.num_rows, np.int16),
    )


def _side_by_side(columns: Sequence[NDArray[Any]], num_rows: int, kind: type) -> NDArray[Any]:
    """[n, columns], also where there are none."""
    return np.stack(columns, axis=1) if columns else np.zeros((num_rows, 0), dtype=kind)


def _encode_ids(column: pa.Array, rows: TableRows) -> Ragged:
    """One id column, single values or lists, to bags of table rows.

    A null value, list or element is the feature's missing row; an empty list is an empty bag.
    """
    if not is_list(column.type):
        return Ragged(_encode_flat_ids(column, rows), np.arange(len(column) + 1))
    null = column.is_null().to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(column).fill_null(1).to_numpy(zero_copy_only=False)
    values = np.full(int(lengths.sum()), rows.missing, dtype=np.int64)
    values[~np.repeat(null, lengths)] = _encode_flat_ids(pc.list_flatten(column), rows)
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def _encode_flat_ids(column: pa.Array, rows: TableRows) -> NDArray[np.int64]:
    if pa.types.is_null(column.type):
        return np.full(len(column), rows.missing, dtype=np.int64)
    if pa.types.is_integer(column.type):
        return _encode_values(column, rows)
    # Each distinct string is hashed once.
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    found = np.append(_encode_values(coded.dictionary, rows), rows.missing)
    # An index for null behind the dictionary's: an index type may have none left.
    indices = coded.indices.cast(pa.int64()).fill_null(len(coded.dictionary))
    places: NDArray[np.int64] = indices.to_numpy()
    return found[places]


def _encode_values(column: pa.Array, rows: TableRows) -> NDArray[np.int64]:
    """[n] Rows of integers or strings that are not dictionary-encoded."""
    if pa.types.is_integer(column.type):
        wide = pa.uint64() if pa.types.is_uint64(column.type) else pa.int64()
        values = column.cast(wide).fill_null(0).to_numpy(zero_copy_only=False)
        found = rows_of_integers(values, rows.for_values)
    else:
        words = column.fill_null("").to_numpy(zero_copy_only=False).astype(object)
        found = rows_of_strings(words, rows.for_values)
    null = column.is_null().to_numpy(zero_copy_only=False)
    return np.where(null, rows.missing, found)


def _holds_null(column: pa.Array) -> NDArray[np.bool_]:
    """[n] Whether each row is null or not finite, or a list with a null in it."""
    if pa.types.is_floating(column.type):
        values, known = numbers(column)
        return ~known | ~fits_float32(values)
    holds = np.array(column.is_null().to_numpy(zero_copy_only=False))
    if is_list(column.type):
        element_is_null = pc.list_flatten(column).is_null()
        holds[pc.list_parent_indices(column).filter(element_is_null).to_numpy()] = True
    return holds
