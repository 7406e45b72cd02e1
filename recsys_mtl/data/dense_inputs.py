"""Columns of dense and one_hot features to the dense inputs of the body.

A window of rows keeps one small integer per one_hot feature and row; the inputs of 0 and 1 are
written batch by batch, so that memory does not grow with vocabularies.

n rows, V values of a vocabulary, F columns of all dense inputs.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_mtl.config import DenseFeature, FeatureColumns
from recsys_mtl.data.numbers import fits_float32, numbers
from recsys_mtl.data.schema import is_list

Values = tuple[str, ...] | tuple[int, ...]


def encode_dense(column: pa.Array, feature: DenseFeature) -> NDArray[np.float32]:
    """[n] Numbers, transformed and scaled; the feature's fill where there is none."""
    values, known = numbers(column)
    known &= fits_float32(values)
    values = np.where(known, values, 0.0)
    if feature.transform == "log1p":
        values = np.sign(values) * np.log1p(np.abs(values))
    values = (values - feature.mean) / feature.std
    known &= fits_float32(values)
    return np.where(known, values, feature.fill).astype(np.float32)


def encode_one_hot(column: pa.Array, vocabulary: Values) -> NDArray[np.int16]:
    """[n] Each value's place in the vocabulary; V for any other value, V + 1 for null.

    An unsigned integer from 2^63 on is the integer less 2^64, as ids are.
    """
    other, missing = len(vocabulary), len(vocabulary) + 1
    if pa.types.is_null(column.type):
        return np.full(len(column), missing, dtype=np.int16)
    if pa.types.is_dictionary(column.type):
        places = np.append(encode_one_hot(column.dictionary, vocabulary), np.int16(missing))
        # An index for null behind the dictionary's: an index type may have none left.
        indices = column.indices.cast(pa.int64()).fill_null(len(column.dictionary))
        found: NDArray[np.int16] = places[indices.to_numpy()]
        return found
    if pa.types.is_uint64(column.type):
        column = column.view(pa.int64())
    kind = pa.int64() if pa.types.is_integer(column.type) else pa.large_string()
    known = pc.index_in(column.cast(kind), value_set=pa.array(vocabulary, kind), skip_nulls=True)
    place = known.fill_null(other).to_numpy(zero_copy_only=False)
    null = column.is_null().to_numpy(zero_copy_only=False)
    return np.where(null, missing, place).astype(np.int16)


def vocabulary_of(column: pa.Array | pa.ChunkedArray) -> Values:
    """The different values of a column of strings or integers, without null, sorted.

    Raises:
        ValueError: the column holds lists, or neither strings nor integers.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if is_list(kind) or not (text or pa.types.is_integer(kind)):
        raise ValueError(f"a column of type {column.type} has no vocabulary; strings or integers")
    return tuple(sorted(column.cast(kind).drop_null().unique().to_pylist()))


def dense_inputs(
    dense: NDArray[np.float32], places: NDArray[np.int16], features: FeatureColumns
) -> NDArray[np.float32]:
    """[n, F] What the body reads beside embeddings, features in the configuration's order.

    Example: of the features age (dense) and city (one_hot, vocabulary Oslo, Rio), the numbers
    [[0.5]] and the places [[1]], which is Rio, give [[0.5, 0, 1, 0, 0]].

    Args:
        dense: [n, dense features] Their numbers, as `encode_dense` gives them.
        places: [n, one_hot features] Places in their vocabularies, as `encode_one_hot` gives them.
    """
    widths = features.dense_widths()
    first = dict(zip(widths, np.cumsum([0, *widths.values()]).tolist(), strict=False))
    numbers_at = np.array([first[name] for name, _ in features.dense_features()], dtype=np.int64)
    ones_from = np.array([first[name] for name, _ in features.one_hot_features()], dtype=np.int64)
    inputs = np.zeros((len(dense), features.dense_columns), dtype=np.float32)
    inputs[:, numbers_at] = dense
    inputs[np.arange(len(places))[:, np.newaxis], ones_from + places] = 1.0
    return inputs
