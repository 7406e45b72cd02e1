"""Rows as an application has them, to the columns of the log that was trained on.

An id keeps its row of a table only where it comes in the type that the log had: the string "7" is
another id than the integer 7. So each column is held to what it held there, and nothing is guessed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.config import UserError
from recsys_mtl.data.schema import id_family, in_one_line, is_list, number_family

Rows: TypeAlias = pa.Table | pa.RecordBatch | pd.DataFrame | Sequence[Mapping[str, Any]]

_TYPES = {
    "integer": pa.int64(),
    "uint64": pa.uint64(),
    "string": pa.large_string(),
    "null": pa.null(),
}
_INTEGERS = ("integer", "uint64")
_LIST = "list of "
_EXACT_BITS = {16: 11, 32: 24, 64: 53}
"""Bits of a float to the size of integers that it tells from their neighbours."""


class RowsError(UserError):
    """Rows cannot be scored as they are. Names the column."""


def read_rows(rows: Rows, columns: Mapping[str, str]) -> pa.Table:
    """The columns of features, each in one type: int64, uint64, large strings, large lists of
    these, or float64.

    Integers of either sign keep their 64 bits, which choose their row: 2^64 - 1 where the log held
    int64 becomes -1, the same id.

    Args:
        columns: the log's column to what it held, as `Bundle.columns` has it.

    Raises:
        RowsError: no rows at all, a column that is missing, or one that holds something else.
    """
    if not isinstance(rows, pa.Table | pa.RecordBatch | pd.DataFrame):
        _refuse_what_is_no_list_of_dicts(rows)
    if len(rows) == 0:
        return pa.table({name: pa.nulls(0) for name in columns})
    return pa.table(
        {name: _fitted(_column(rows, name, held), name, held) for name, held in columns.items()}
    )


def _refuse_what_is_no_list_of_dicts(rows: object) -> None:
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise RowsError(
            f"rows are a {type(rows).__name__}; give a pyarrow Table or RecordBatch, a pandas "
            "frame, or a list with one dict per row"
        )
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise RowsError(
                f"row {place} is a {type(row).__name__}; give one dict per row, column to value"
            )


def _column(rows: Rows, name: str, held: str) -> pa.Array:
    """One column, as Arrow reads it."""
    if isinstance(rows, pa.Table | pa.RecordBatch):
        _refuse_unless_once(rows.schema.get_all_field_indices(name), name, rows.schema.names)
        column = rows.column(name)
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        return _sound(column, name)
    if isinstance(rows, pd.DataFrame):
        _refuse_unless_once(np.flatnonzero(rows.columns == name).tolist(), name, rows.columns)
        return _from_python(rows[name], name, held)
    return _from_python([row.get(name) for row in rows], name, held)


def _refuse_unless_once(places: Sequence[int], name: str, names: Sequence[object]) -> None:
    if len(places) != 1:
        what = "is missing from" if len(places) == 0 else "stands twice in"
        raise RowsError(
            f"column {name!r} {what} the rows, which have: {', '.join(map(str, names))}; give "
            "every column that the model reads once"
        )


def _sound(column: pa.Array, name: str) -> pa.Array:
    try:
        column.validate(full=True)  # strings that are no UTF-8 have no hash
    except pa.ArrowException as error:
        raise RowsError(f"column {name!r} is damaged: {in_one_line(error)}; mend it") from None
    return column


def _from_python(values: Any, name: str, held: str) -> pa.Array:
    """A list or pandas series to Arrow; None, NaN and NA are null."""
    problems = (pa.ArrowException, OverflowError, TypeError, ValueError)
    try:
        column = pa.array(values, from_pandas=True)
        # A frame put together of others keeps their chunks.
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    except problems as error:
        problem: Exception = error
    scalar = held.removeprefix(_LIST)
    if scalar in (*_INTEGERS, "null"):  # Arrow takes integers for int64 unless it is told
        wide = pa.uint64() if scalar == held else pa.list_(pa.uint64())
        try:
            return pa.array(values, wide, from_pandas=True)
        except problems:
            pass
    found = in_one_line(problem)
    if isinstance(problem, OverflowError):
        found = "it holds an integer beyond 64 bits, or one from 2^63 on beside a negative one"
    raise RowsError(
        f"column {name!r} cannot be read: {found}; give {_in_words(held)}, as in the log that was "
        "trained on"
    )


def _fitted(column: pa.Array, name: str, held: str) -> pa.Array:
    """A column in the type of what the log held."""
    if held == "number":
        if number_family(column.type) is None:
            raise _other_kind(name, column.type, held)
        return pc.cast(column, pa.float64(), safe=False)
    if held == "null":  # no value of it was trained on, so whatever ids there are are new ones
        found = id_family(column.type) or held
        held = _LIST + found if found == "null" and is_list(column.type) else found
    scalar = held.removeprefix(_LIST)
    if pa.types.is_null(column.type):
        return column.cast(_TYPES[scalar] if scalar == held else pa.large_list(_TYPES[scalar]))
    if is_list(column.type) == (scalar == held):
        raise _other_kind(name, column.type, held)
    if scalar == held:
        return _fitted_scalars(column, name, held)
    ids = _fitted_scalars(pc.list_flatten(column), name, held)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), ids, mask=column.is_null())


def _fitted_scalars(column: pa.Array, name: str, held: str) -> pa.Array:
    """Single values, or those of all lists, in the type of what the log held."""
    scalar, kind = held.removeprefix(_LIST), column.type
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type) and scalar in _INTEGERS:
        column = _integers_of_floats(column, name)
    found = id_family(column.type)
    if found not in (scalar, "null") and not (found in _INTEGERS and scalar in _INTEGERS):
        raise _other_kind(name, kind, held)
    if found in _INTEGERS:
        wide = pa.uint64() if found == "uint64" else pa.int64()
        return column.cast(wide).view(_TYPES[scalar])
    return column.cast(_TYPES[scalar])


def _integers_of_floats(column: pa.Array, name: str) -> pa.Array:
    """Integers that pandas or JSON made floats of, nulls among them, perhaps; NaN is null."""
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    known = ~np.isnan(values)
    limit = 2.0 ** _EXACT_BITS[column.type.bit_width]
    odd = known & ~((values == np.floor(values)) & (np.abs(values) < limit))
    if odd.any():
        raise RowsError(
            f"column {name!r} holds the float {float(values[odd][0])!r}, which is no integer or "
            "too large for a float to tell it from its neighbours; give integers (in pandas: Int64)"
        )
    return pa.array(np.where(known, values, 0).astype(np.int64), mask=~known)


def _other_kind(name: str, found: pa.DataType, held: str) -> RowsError:
    words = _in_words(held)
    return RowsError(
        f"column {name!r} holds {found}, but {words} in the log that was trained on; give {words}"
    )


def _in_words(held: str) -> str:
    """What a column held, for a sentence."""
    names = {"integer": "integers", "uint64": "integers", "null": "ids"}
    scalar = held.removeprefix(_LIST)
    return ("lists of " if scalar != held else "") + names.get(scalar, f"{scalar}s")
