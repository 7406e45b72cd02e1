"""The row of an embedding table that an id has: the same in every process, release and column type.

An integer from 0 to rows - 1 has the row of its number, so compact ids never share a row. Any other
integer and every string is hashed to 64 bits, of which the upper 32 choose the row. A remainder
would send ids with a common factor (a time stamp in the upper bits, say) to a few rows or one.

n values; `rows` is the number of rows for values. It is below 2^32, so that its product with 32
bits of a hash has 64.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ID_ENCODING_VERSION = 2
"""Says which rule gave a trained table's rows to its ids. 1 took integers and hashes modulo
`rows`; 2 is this file."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's increment: 0 is mixed to something else


class GoldenVector(NamedTuple):
    """An id and the row that it has: what every encoder of this version must reproduce."""

    value: int | str
    rows: int
    """Of the table, for values."""
    row: int


def golden_vectors() -> tuple[GoldenVector, ...]:
    """Fifty ids with their rows, for encoders in other languages and for this one in later years.

    The tests hold them to a plain-Python twin of the rule.
    """
    stored = json.loads(Path(__file__).with_name("id_golden_vectors.json").read_text("utf-8"))
    assert stored["id_encoding_version"] == ID_ENCODING_VERSION
    return tuple(GoldenVector(**vector) for vector in stored["vectors"])


def row_of(value: int | str, rows: int) -> int:
    """The table row of one id; an integer lies in [-2^63, 2^64)."""
    if isinstance(value, str):
        return int(rows_of_strings(np.array([value], dtype=object), rows)[0])
    bits = np.array([value % 2**64], dtype=np.uint64)
    return int(rows_of_integers(bits, rows)[0])


def rows_of_integers(
    values: NDArray[np.int64] | NDArray[np.uint64], rows: int
) -> NDArray[np.int64]:
    """The table row of each integer.

    An integer outside [0, rows) is mixed by `mix64`: splitmix64's finaliser of its two's-complement
    bits plus 0x9E3779B97F4A7C15. An unsigned integer from 2^63 on has the bits, and so the row, of
    that integer less 2^64. Example with 24 rows: 7 has row 7; mix64(24) is 0xaac8c00000a81e44, and
    0xaac8c000 times 24, divided by 2^32, gives row 16.

    Args:
        values: [n]
        rows: for values, in the table.

    Returns:
        [n], in [0, rows).
    """
    bits = values.view(np.uint64)
    compact = bits < np.uint64(rows)
    if compact.all():
        return bits.view(np.int64)
    return np.where(compact, bits, _rows_of_hashes(hashes_of_integers(values), rows)).view(np.int64)


def rows_of_strings(words: NDArray[np.object_], rows: int) -> NDArray[np.int64]:
    """The table row of each string.

    `siphash24+mix64final`: SipHash-2-4 of the UTF-8 bytes with the key 0123456789123456, then
    splitmix64's finaliser, which is what pandas' `hash_array` computes. A string of digits is not
    the integer of these digits.

    Args:
        words: [n]
        rows: for values, in the table.

    Returns:
        [n], in [0, rows).
    """
    return _rows_of_hashes(hashes_of_strings(words), rows).view(np.int64)


def hashes_of_integers(values: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """[n] `mix64` of each integer."""
    return finalised(values.view(np.uint64) + _GOLDEN)


def hashes_of_strings(words: NDArray[np.object_]) -> NDArray[np.uint64]:
    """[n] `siphash24+mix64final` of each string."""
    found: NDArray[np.uint64] = pd.util.hash_array(
        words, hash_key="0123456789123456", categorize=False
    )
    return found


def finalised(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), written into `z`."""
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _rows_of_hashes(hashes: NDArray[np.uint64], rows: int) -> NDArray[np.uint64]:
    """[n] ((h >> 32) rows) >> 32: the upper halves, spread evenly, without a division."""
    halves = hashes >> np.uint64(32)
    halves *= np.uint64(rows)
    halves >>= np.uint64(32)
    return halves
