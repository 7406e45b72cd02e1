"""Arrow columns to ids, numbers and masks: nulls, types and edges of their ranges."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.config import Data
from recsys_mtl.data.features import (
    REJECT_REASONS,
    REJECTED,
    EncodedRows,
    TableRows,
    encode,
    table_rows,
    table_sizes,
)
from recsys_mtl.data.schema import DataError
from tests.unit.data.click_logs import click_data
from tests.unit.data.plain_ids import plain_row

ROWS = 100
MISSING = ROWS


def id_feature(**settings: Any) -> dict[str, Any]:
    return {"kind": "id", "rows": ROWS, "embedding_dim": 4} | settings


def encode_columns(data: Data, **columns: pa.Array) -> EncodedRows:
    rows = len(next(iter(columns.values())))
    columns.setdefault("buy", pa.array([0] * rows))
    return encode(pa.table(columns | {REJECTED: pa.repeat(False, rows)}), data, "log.parquet")


def bags(column: pa.Array) -> list[list[int]]:
    """The table rows that an id feature of this column looks up, row by row."""
    encoded = encode_columns(click_data(features={"x": id_feature()}), x=column)
    ids = encoded.ids[0]
    return [ids.values[a:b].tolist() for a, b in zip(ids.offsets, ids.offsets[1:], strict=False)]


def dense_inputs(column: pa.Array, **settings: Any) -> list[float]:
    data = click_data(features={"x": {"kind": "dense"} | settings})
    encoded = encode_columns(data, x=column)
    assert encoded.dense.dtype == np.float32
    return [float(x) for x in encoded.dense[:, 0]]


def labels(column: pa.Array, *, on_error: str = "fail") -> EncodedRows:
    data = click_data(features={"x": id_feature()}, on_error=on_error)
    return encode_columns(data, x=pa.array([0] * len(column)), buy=column)


def reasons(encoded: EncodedRows) -> list[str]:
    """For each row why it was rejected; empty for one that was not."""
    return [
        " ".join(name for name, hit in zip(REJECT_REASONS, row, strict=True) if hit)
        for row in encoded.rejected
    ]


INTEGER_KINDS = [
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()
]  # fmt: skip


def encodings(values: list[int | str | None], kind: pa.DataType) -> list[pa.Array]:
    """The values as a plain column and as dictionaries of several index types."""
    indices = (pa.int8(), pa.int32(), pa.uint64())
    return [pa.array(values, kind), *(pa.array(values, pa.dictionary(i, kind)) for i in indices)]


@pytest.mark.parametrize("kind", INTEGER_KINDS, ids=str)
def test_an_integer_has_one_row_whatever_type_holds_it(kind: pa.DataType) -> None:
    width = kind.bit_width
    lowest, highest = (
        (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
        if pa.types.is_signed_integer(kind)
        else (0, 2**width - 1)
    )
    values = [v for v in (0, 7, 99, 100, 101, -1, lowest, highest) if lowest <= v <= highest]
    expected = [[plain_row(v, ROWS)] for v in values]
    assert expected[:3] == [[0], [7], [99]]
    for column in encodings(values, kind):
        assert bags(column) == expected, column.type


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 105) | st.none()))
def test_each_integer_is_looked_up_by_itself(values: list[int | None]) -> None:
    expected = [[MISSING if v is None else plain_row(v, ROWS)] for v in values]
    assert bags(pa.array(values, pa.int64())) == expected


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([5, None, -1, 5, 2**40], pa.int64()),
        ([5, None, 2**64 - 1, 5], pa.uint64()),
        (["a", None, "", "a"], pa.string()),
        (["a", None, "", "a"], pa.large_string()),
        ([None, None], pa.int32()),
        ([], pa.string()),
    ],
)
def test_dictionaries_and_lists_of_them_hold_the_ids_of_plain_columns(
    values: list[int | str | None], kind: pa.DataType
) -> None:
    rows = [MISSING if v is None else plain_row(v, ROWS) for v in values]
    for column in encodings(values, kind):
        assert bags(column) == [[row] for row in rows]
        assert bags(column[1:]) == [[row] for row in rows[1:]]
        lists = pa.LargeListArray.from_arrays([0, len(values), len(values)], column)
        assert bags(lists) == [rows, []]


def test_a_dictionary_may_be_full_and_may_hold_null() -> None:
    values = list(range(50, 50 + 128))  # all that an int8 index can tell apart
    indices = pa.array([0, 127, None], pa.int8())
    full = pa.DictionaryArray.from_arrays(indices, pa.array(values))
    assert bags(full) == [[50], [plain_row(177, ROWS)], [MISSING]]
    with_null = pa.DictionaryArray.from_arrays([0, 1], pa.array([None, 7]))
    assert bags(with_null) == [[MISSING], [7]]


def test_a_null_id_has_a_row_of_its_own() -> None:
    assert bags(pa.array([None, 0])) == [[MISSING], [0]]
    assert bags(pa.array([None, ""]))[0] == [MISSING]
    assert bags(pa.array([None, ""]))[1] != [MISSING]


def test_a_column_without_any_value_is_all_missing() -> None:
    assert bags(pa.nulls(2)) == [[MISSING], [MISSING]]


@pytest.mark.parametrize("list_of", [pa.list_, pa.large_list])
def test_null_lists_empty_lists_and_null_elements(list_of: Any) -> None:
    column = pa.array([[1, 2], None, [], [None, 3], [None]], list_of(pa.int64()))
    assert bags(column) == [[1, 2], [MISSING], [], [MISSING, 3], [MISSING]]


def test_lists_of_strings_hash_like_strings() -> None:
    single = bags(pa.array(["a", "b", None]))
    assert bags(pa.array([["a", "b", None]])) == [list(np.concatenate(single))]


def test_a_sliced_list_column_keeps_its_own_values() -> None:
    column = pa.array([[1], [2, 3], None, [4]])
    assert bags(column[1:]) == [[2, 3], [MISSING], [4]]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_a_string_has_one_row_whatever_stands_beside_it(words: list[str]) -> None:
    together = bags(pa.array(words, pa.string()))
    assert together == [bags(pa.array([word], pa.large_string()))[0] for word in words]
    assert all(0 <= row < ROWS for (row,) in together)


def test_features_of_one_table_share_values_but_not_the_missing_row() -> None:
    data = click_data(
        features={
            "last": {"kind": "id", "table": "item"},
            "item": id_feature(),
            "other": id_feature(rows=5),
            "next": {"kind": "id", "table": "item"},
        }
    )
    assert table_sizes(data) == {"item": ROWS + 3, "other": 6}
    places = table_rows(data)
    shared = [places[name] for name in ("last", "item", "next")]
    assert {place.for_values for place in shared} == {ROWS}
    assert sorted(place.missing for place in shared) == [ROWS, ROWS + 1, ROWS + 2]
    assert places["other"] == TableRows(for_values=5, missing=5)
    column = pa.array([42, None])
    encoded = encode_columns(data, last=column, item=column, other=column, next=column)
    assert [ids.values.tolist() for ids in encoded.ids] == [
        [42, places["last"].missing],
        [42, places["item"].missing],
        [plain_row(42, 5), 5],
        [42, places["next"].missing],
    ]


def test_dense_inputs_are_transformed_then_scaled() -> None:
    column = pa.array([math.e - 1, -(math.e - 1), 0.0])
    found = dense_inputs(column, transform="log1p", mean=0.5, std=0.25)
    assert found == pytest.approx([2.0, -6.0, -2.0])
    assert dense_inputs(column, mean=1, std=2) == pytest.approx(
        [(math.e - 2) / 2, -math.e / 2, -0.5]
    )


def test_fill_stands_for_what_is_no_number() -> None:
    # 1e39 is finite in the file, but infinite in float32.
    column = pa.array([None, math.nan, math.inf, -math.inf, 1e39, -1e39, 4.0])
    found = dense_inputs(column, transform="log1p", mean=1, std=2, fill=-7.5)
    assert found == pytest.approx([-7.5] * 6 + [(math.log1p(4) - 1) / 2])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 3], pa.uint64()),
        pa.array([Decimal("0"), Decimal("3")], pa.decimal128(5, 2)),
        pa.array(np.array([0, 3], np.float16)),
    ],
)
def test_every_numeric_type_is_a_dense_input(column: pa.Array) -> None:
    assert dense_inputs(column) == [0.0, 3.0]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_float_labels_are_labels_and_nan_is_not_known(kind: pa.DataType) -> None:
    found = labels(pa.array([0.0, 1.0, math.nan, None], kind))
    assert found.labels[:, 0].tolist() == [0, 1, 0, 0]
    assert found.label_mask[:, 0].tolist() == [True, True, False, False]
    assert not found.rejected.any()


@pytest.mark.parametrize(("value", "said"), [(2, "2"), (-1, "-1"), (0.5, "0.5"), (math.inf, "inf")])
def test_another_label_is_refused_with_column_task_value_and_file(value: float, said: str) -> None:
    expected = (
        rf"^label 'buy' \(data.labels.purchase\) has the value {said} in log.parquet; "
        r"a label is 0, 1 or null"
    )
    with pytest.raises(DataError, match=expected):
        labels(pa.array([0, value]))


@pytest.mark.parametrize("value", [2, math.inf])
def test_skip_leaves_the_row_of_another_label_out_of_every_task(value: float) -> None:
    data = click_data(
        features={"x": id_feature()}, labels={"first": "buy", "second": "cart"}, on_error="skip"
    )
    found = encode_columns(
        data, x=pa.array([1, None, 3]), buy=pa.array([1, value, 0]), cart=pa.array([1, 1, None])
    )
    assert reasons(found) == ["", "label", ""]
    assert found.label_mask.tolist() == [[True, True], [False, False], [True, False]]
    assert found.labels.tolist() == [[1, 1], [0, 0], [0, 0]]
    # Columns x, buy, cart; the rejected row's null is not counted.
    assert found.nulls.tolist() == [
        [False, False, False],
        [False, False, False],
        [False, False, True],
    ]


def test_rows_marked_as_unusable_are_rejected_and_masked() -> None:
    data = click_data(features={"x": id_feature()})
    table = pa.table(
        {"x": pa.array([1, None]), "buy": pa.array([1, None]), REJECTED: pa.array([False, True])}
    )
    found = encode(table, data, "log.parquet")
    assert reasons(found) == ["", "unreadable"]
    assert found.label_mask.tolist() == [[True], [False]]
    assert not found.nulls.any()


def test_nulls_are_counted_by_row_and_column() -> None:
    data = click_data(
        features={"single": id_feature(), "many": id_feature(), "x": {"kind": "dense"}}
    )
    found = encode_columns(
        data,
        single=pa.array([None, "a", "b", "c"]),
        many=pa.array([[1, 2], [], None, [None, None, 4]]),
        x=pa.array([1.0, math.nan, None, math.inf]),
        buy=pa.array([1, 0, None, 0]),
    )
    assert found.nulls.tolist() == [
        [True, False, False, False],
        [False, False, True, False],
        [False, True, True, True],
        [False, True, True, False],
    ]


def test_slices_are_the_rows_they_name() -> None:
    data = click_data(on_error="skip")
    count = 6
    whole = encode_columns(
        data,
        row=pa.array(range(count)),
        words=pa.array([["w"] * (i % 3) for i in range(count)]),
        price=pa.array([None, *map(float, range(1, count))]),
        buy=pa.array([0, 1, None, 1, 7, 1]),
    )
    part = whole.slice(2, 5)
    assert part.ids[0].values.tolist() == [2, 3, 4]
    assert part.ids[1].lengths.tolist() == [2, 0, 1]
    assert len(part.ids[1].values) == 3
    assert part.dense[:, 0].tolist() == [2, 3, 4]
    assert part.labels[:, 0].tolist() == [0, 1, 0]
    assert part.label_mask[:, 0].tolist() == [False, True, False]
    assert reasons(part) == ["", "", "label"]
    assert len(part.nulls) == 3
    assert whole.slice(0, 1).nulls.any()
    assert not whole.slice(3, 6).nulls.any()


def test_a_model_without_dense_features_has_no_dense_columns() -> None:
    assert labels(pa.array([0, 1])).dense.shape == (2, 0)
