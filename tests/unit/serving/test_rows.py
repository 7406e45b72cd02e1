"""Columns are held to what the log held; what would become another id without a word is refused."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_mtl.serving.rows import RowsError, read_rows

HELD = {
    "number": "number",
    "id": "integer",
    "big": "uint64",
    "word": "string",
    "ids": "list of integer",
    "words": "list of string",
    "unknown": "null",
}


def read(name: str, values: list[Any]) -> list[Any]:
    """One column, given as dicts."""
    (column,) = read_rows([{name: value} for value in values], {name: HELD[name]})
    return list(column.to_pylist())


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("id", [1, None, -7], [1, None, -7]),
        ("id", [1.0, math.nan, None, 2], [1, None, None, 2]),
        ("id", [2**64 - 1, 3], [-1, 3]),
        ("id", [np.int32(4), np.uint64(5)], [4, 5]),
        ("big", [2**63 + 5, None, 7], [2**63 + 5, None, 7]),
        ("big", [3.0], [3]),
        ("word", ["", "東京", None], ["", "東京", None]),
        ("ids", [[1, None], [], None, (2,)], [[1, None], [], None, [2]]),
        ("ids", [[1.0, math.nan], None, [], [3.0]], [[1, None], None, [], [3]]),
        ("ids", [np.array([2**63], dtype=np.uint64)], [[-(2**63)]]),
        ("ids", [[2**63 + 1, 2]], [[-(2**63) + 1, 2]]),
        ("ids", [[], None], [[], None]),
        ("words", [["a"], [None]], [["a"], [None]]),
        ("number", [True, False], [1.0, 0.0]),
        ("number", [1, 2.5, math.nan], [1.0, 2.5, None]),
        ("number", [2**60 + 1], [2.0**60]),
        ("unknown", [7], [7]),
        ("unknown", [["a"], None], [["a"], None]),
        ("unknown", [[], None, [None]], [[], None, [None]]),
    ],
)
def test_values_become_what_the_log_held(name: str, values: list[Any], expected: list[Any]) -> None:
    assert read(name, values) == expected


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("id", ["7"], "column 'id' holds string, but integers"),
        ("id", [1.5], "column 'id' holds the float 1.5"),
        ("id", [2.0**53], "too large for a float"),
        ("id", [1, "x"], "column 'id' cannot be read: .*give integers"),
        ("id", [-1, 2**64 - 1], "column 'id' cannot be read"),
        ("id", [2**64], "column 'id' cannot be read: it holds an integer beyond 64 bits"),
        ("id", [True], "column 'id' holds bool"),
        ("id", [[1]], "column 'id' holds list"),
        ("word", [7], "column 'word' holds int64, but strings"),
        ("word", [b"x"], "column 'word' holds binary"),
        ("word", ["\ud800"], "column 'word' cannot be read"),
        ("ids", [3], "column 'ids' holds int64, but lists of integers"),
        ("ids", [["3"]], "column 'ids' holds string, but lists of integers"),
        ("ids", [[[3]]], "column 'ids' holds list"),
        ("words", [[1]], "column 'words' holds int64, but lists of strings"),
        ("number", ["3"], "column 'number' holds string, but numbers"),
        ("number", [{"a": 1}], "column 'number' holds struct"),
        ("unknown", [1.5], "column 'unknown' holds double, but ids"),
    ],
)
def test_another_kind_of_value_is_refused(name: str, values: list[Any], says: str) -> None:
    with pytest.raises(RowsError, match=says):
        read(name, values)


def test_a_float32_tells_fewer_integers_apart() -> None:
    column = pa.array([float(2**24)], pa.float32())
    with pytest.raises(RowsError, match="too large for a float"):
        read_rows(pa.table({"id": column}), {"id": "integer"})
    assert read_rows(pa.table({"id": column.cast("float64")}), {"id": "integer"}).num_rows == 1


@pytest.mark.parametrize("rows", [pa.table({"a": [1]}), pd.DataFrame({"a": [1]})])
def test_a_table_or_frame_needs_every_column(rows: pa.Table | pd.DataFrame) -> None:
    with pytest.raises(RowsError, match="column 'id' is missing from the rows, which have: a;"):
        read_rows(rows, {"id": "integer"})


def test_a_column_that_stands_twice_is_refused() -> None:
    table = pa.table([[1], [2]], names=["id", "id"])
    for rows in (table, pd.DataFrame([[1, 2]], columns=["id", "id"])):
        with pytest.raises(RowsError, match="column 'id' stands twice"):
            read_rows(rows, {"id": "integer"})


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"id": 1}, "rows are a dict; give"),
        ("text", "rows are a str; give"),
        ([{"id": 1}, 3], "row 1 is a int; give one dict per row"),
    ],
)
def test_what_is_no_list_of_dicts_is_refused(rows: Any, says: str) -> None:
    with pytest.raises(RowsError, match=says):
        read_rows(rows, {"id": "integer"})


def test_a_string_that_is_no_utf8_is_refused() -> None:
    broken = pa.StringArray.from_buffers(
        1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    )
    with pytest.raises(RowsError, match="column 'word' is damaged"):
        read_rows(pa.table({"word": broken}), {"word": "string"})


def test_slices_and_fixed_sizes_are_read_as_what_they_hold() -> None:
    lists = pa.array([[9, 9], [1, 2], None, [3, None]], pa.list_(pa.int16(), 2)).slice(1)
    (column,) = read_rows(pa.table({"ids": lists}), {"ids": "list of integer"})
    assert column.to_pylist() == [[1, 2], None, [3, None]]
