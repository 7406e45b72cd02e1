"""Values of any scalar column as 64-bit keys: who is in one group, without the values themselves.

n values. Two values have one key by chance with a probability of 2^-64: among 8 million groups, one
pair in half a million logs.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_mtl.data.ids import hashes_of_integers, hashes_of_strings
from recsys_mtl.data.schema import DataError

_NULL_KEY = np.uint64(0x6E756C6C6E756C6C)  # all nulls are one group


def keys_of(column: pa.Array, name: str) -> NDArray[np.uint64]:
    """[n] The key of each value, the same in every process and for every width of an integer.

    Args:
        column: of integers, strings, booleans, floats, dates or times, which may be
            dictionary-encoded.
        name: of the column, for the message.

    Raises:
        DataError: it holds something else.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        found = np.append(keys_of(column.dictionary, name), _NULL_KEY)
        indices = column.indices.cast(pa.int64()).fill_null(len(column.dictionary))
        keys: NDArray[np.uint64] = found[indices.to_numpy()]
        return keys
    if pa.types.is_null(kind):
        return np.full(len(column), _NULL_KEY)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        coded = column.cast(pa.large_string()).dictionary_encode()
        words = coded.dictionary.to_numpy(zero_copy_only=False).astype(object)
        found = np.append(hashes_of_strings(words), _NULL_KEY)
        places = coded.indices.cast(pa.int64()).fill_null(len(words)).to_numpy()
        return np.asarray(found[places])
    keys = hashes_of_integers(_as_integers(column, name))
    return np.where(column.is_null().to_numpy(zero_copy_only=False), _NULL_KEY, keys)


def _as_integers(column: pa.Array, name: str) -> NDArray[np.int64] | NDArray[np.uint64]:
    """[n] Each value as the 64 bits that stand for it, 0 for null."""
    kind = column.type
    if pa.types.is_floating(kind):
        # Adding 0 makes -0.0 the same group as 0.0.
        numbers = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0
        return np.asarray(numbers).view(np.int64)
    if pa.types.is_temporal(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        column = column.cast(width)
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not pa.types.is_integer(kind):
        raise DataError(
            f"column {name!r} has type {kind}, by whose values no rows can be grouped; name a "
            "column of integers, strings, booleans, numbers or times"
        )
    wide = pa.uint64() if pa.types.is_uint64(kind) else pa.int64()
    numbers = pc.fill_null(column.cast(wide), 0).to_numpy(zero_copy_only=False)
    return np.asarray(numbers)
