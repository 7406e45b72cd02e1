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
_EXACT = 2.0**53  # floats below it hold every integer


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


def key_family(kind: pa.DataType) -> str | None:
    """What a column holds whose values become keys, so that files can be compared; None for none.

    Integers, whole numbers in floats and booleans have the same keys.
    """
    if pa.types.is_dictionary(kind):
        return key_family(kind.value_type)
    if pa.types.is_null(kind):
        return "null"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return "number" if is_number or pa.types.is_boolean(kind) else None


def no_keys(kind: pa.DataType, name: str) -> str:
    """The sentence that refuses a column."""
    return (
        f"column {name!r} has type {kind}, by whose values no rows can be grouped; name a column "
        "of integers, strings, booleans, numbers, dates or timestamps"
    )


def _as_integers(column: pa.Array, name: str) -> NDArray[np.int64] | NDArray[np.uint64]:
    """[n] Each value as the 64 bits that stand for it, 0 for null."""
    kind = column.type
    if pa.types.is_floating(kind):
        # pandas writes integers with nulls as floats: 7.0 is the group of 7.
        numbers = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0
        whole = (np.abs(numbers) < _EXACT) & (numbers == np.trunc(numbers))
        integers = np.where(whole, numbers, 0.0).astype(np.int64)
        return np.where(whole, integers, numbers.view(np.int64))
    if pa.types.is_date(kind):
        column = column.cast(pa.date32()).cast(pa.int32())
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not pa.types.is_integer(kind):
        raise DataError(no_keys(kind, name))
    wide = pa.uint64() if pa.types.is_uint64(kind) else pa.int64()
    numbers = pc.fill_null(column.cast(wide), 0).to_numpy(zero_copy_only=False)
    return np.asarray(numbers)
