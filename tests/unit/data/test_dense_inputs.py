"""Small vocabularies to places, and places with numbers to the dense inputs of the body."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys_mtl.config import Data
from recsys_mtl.data.batch import assemble, assemble_features
from recsys_mtl.data.dense_inputs import Values, dense_inputs, encode_one_hot, vocabulary_of
from recsys_mtl.data.features import REJECTED, EncodedRows, encode, encode_features
from recsys_mtl.data.schema import DataError, column_families
from tests.unit.data.click_logs import click_data, fresh_generator
from tests.unit.data.test_features import INTEGER_KINDS, encodings

CITIES = ("Rio", "", "Łódź", "Oslo")
LEVELS = (7, -2, 0, 100)
FEATURES: dict[str, dict[str, Any]] = {
    "city": {"kind": "one_hot", "vocabulary": CITIES},
    "user": {"kind": "id", "rows": 9, "embedding_dim": 4},
    "price": {"kind": "dense", "fill": -1.0},
    "level": {"kind": "one_hot", "column": "tier", "vocabulary": LEVELS},
    "stars": {"kind": "dense"},
}


def plain_place(value: Any, vocabulary: Values) -> int:
    if value is None:
        return len(vocabulary) + 1
    return vocabulary.index(value) if value in vocabulary else len(vocabulary)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_a_string_has_one_place_whatever_type_holds_it(kind: pa.DataType) -> None:
    words = ["Oslo", None, "Bergen", "", "oslo", "Łódź", "Rio", " Rio"]
    expected = [plain_place(word, CITIES) for word in words]
    assert expected == [3, 5, 4, 1, 4, 2, 0, 4]
    columns = [pa.array(words, kind)] if kind == pa.string_view() else encodings(words, kind)
    for column in columns:
        found = encode_one_hot(column, CITIES)
        assert (found.dtype, found.tolist()) == (np.int16, expected), column.type
        assert encode_one_hot(column[3:], CITIES).tolist() == expected[3:]


@pytest.mark.parametrize("kind", INTEGER_KINDS, ids=str)
def test_an_integer_has_one_place_whatever_type_holds_it(kind: pa.DataType) -> None:
    values = [7, None, 0, 1, 100, 7]
    if pa.types.is_signed_integer(kind):
        values += [-2, -(2 ** (kind.bit_width - 1))]
    expected = [plain_place(value, LEVELS) for value in values]
    for column in encodings(values, kind):
        assert encode_one_hot(column, LEVELS).tolist() == expected, column.type


def test_the_largest_integers_are_those_that_ids_take_them_for() -> None:
    column = pa.array([2**64 - 2, 2**63, None, 7], pa.uint64())
    assert encode_one_hot(column, LEVELS).tolist() == [1, 4, 5, 0]
    assert encode_one_hot(column, (-(2**63),)).tolist() == [1, 0, 2, 1]


def test_a_column_without_any_value_or_row_is_encoded() -> None:
    for vocabulary in (CITIES, LEVELS):
        assert encode_one_hot(pa.nulls(2), vocabulary).tolist() == [5, 5]
        assert encode_one_hot(pa.nulls(0), vocabulary).tolist() == []
    nulls = pa.DictionaryArray.from_arrays([0, None], pa.array([None], pa.string()))
    assert encode_one_hot(nulls, CITIES).tolist() == [5, 5]


def random_rows(rng: np.random.Generator, num_rows: int) -> pa.Table:
    def some(values: list[Any]) -> list[Any]:
        return [values[i] for i in rng.integers(0, len(values), num_rows)]

    return pa.table(
        {
            "city": pa.array(some([*CITIES, None, "Bergen"]), pa.string()),
            "user": pa.array(some([0, 3, None])),
            "price": pa.array(some([0.5, None, 2.25])),
            "tier": pa.array(some([*LEVELS, None, 1]), pa.int32()),
            "stars": pa.array(some([1, 2, 3])),
            "buy": pa.array(some([0, 1])),
        }
    )


def plain_inputs(rows: pa.Table) -> list[list[float]]:
    """Row by row, in the order of `FEATURES`."""

    def ones(value: Any, vocabulary: Values) -> list[float]:
        place = plain_place(value, vocabulary)
        return [float(place == column) for column in range(len(vocabulary) + 2)]

    return [
        [
            *ones(row["city"], CITIES),
            -1.0 if row["price"] is None else row["price"],
            *ones(row["tier"], LEVELS),
            row["stars"],
        ]
        for row in rows.to_pylist()
    ]


def encoded(rows: pa.Table, data: Data) -> EncodedRows:
    marks = pa.repeat(False, rows.num_rows)
    return encode(rows.append_column(REJECTED, marks), data, "log.parquet")


def test_a_batch_has_each_feature_s_inputs_in_the_configuration_s_order() -> None:
    rng, data = fresh_generator(), click_data(features=FEATURES)
    assert data.dense_widths() == {"city": 6, "price": 1, "level": 6, "stars": 1}
    rows = random_rows(rng, 30)
    expected = plain_inputs(rows)
    whole = encoded(rows, data)
    lanes = [[whole.slice(0, 4), whole.slice(4, 9)], [whole.slice(9, 13)], []]
    batch = assemble(0, lanes, 9, data)
    padding = [[0.0] * 14] * 5
    assert batch.dense.dtype == torch.float32
    assert batch.dense.tolist() == [*expected[:9], *expected[9:13], *padding, *[[0.0] * 14] * 9]
    features = encode_features(rows, data)
    for served in (
        assemble_features([features.slice(0, 7), features.slice(7, 30)], 30, data).dense,
        dense_inputs(features.dense, features.places, data),
    ):
        assert served.tolist() == expected
    assert assemble_features([], 2, data).dense.tolist() == [[0.0] * 14] * 2


@pytest.mark.parametrize("kept", [("city", "level"), ("city",), ("price", "stars"), ("user",)])
def test_a_model_may_have_any_kinds_of_features_alone(kept: tuple[str, ...]) -> None:
    data = click_data(features={name: FEATURES[name] for name in kept})
    rows = random_rows(fresh_generator(), 8)
    batch = assemble(0, [[encoded(rows, data)]], 9, data)
    assert batch.dense.shape == (9, sum(data.dense_widths().values()))
    assert (batch.ids is None) == (kept != ("user",))


def test_nulls_are_counted_and_values_without_a_place_are_none() -> None:
    data = click_data(features={name: FEATURES[name] for name in ("city", "level")})
    rows = pa.table({"city": ["Bergen", None, ""], "tier": [None, None, 1], "buy": [0, 1, 1]})
    found = encoded(rows, data)
    assert found.nulls.sum(axis=0).tolist() == [1, 2, 0]
    batch = assemble(0, [[found, found.slice(0, 1)], []], 5, data)
    assert batch.nulls.tolist() == [1, 3, 0]
    assert batch.outside_vocabulary.tolist() == [2, 1], "Bergen twice, and one tier; no padding"


def test_rejected_rows_have_no_value_outside_a_vocabulary() -> None:
    data = click_data(features={"city": FEATURES["city"]}, on_error="skip")
    rows = pa.table({"city": ["Bergen", "Bergen"], "buy": [0, 7]})
    batch = assemble(0, [[encoded(rows, data)]], 2, data)
    assert batch.outside_vocabulary.tolist() == [1]


@pytest.mark.parametrize(
    ("column", "kind", "says"),
    [
        ("city", pa.int64(), "has type int64; it must hold one string per row, as its vocabulary"),
        ("city", pa.list_(pa.string()), "has type list<.*>; it must hold one string per row"),
        ("city", pa.list_(pa.null()), "it must hold one string per row"),
        ("city", pa.binary(), "has type binary; it must hold one string per row"),
        ("tier", pa.string(), r"'tier' \(data.features.level\) in a.parquet has type string; it "),
        ("tier", pa.float64(), "has type double; it must hold one integer per row"),
        ("tier", pa.bool_(), "has type bool; it must hold one integer per row"),
    ],
)
def test_a_column_of_another_type_than_its_vocabulary_s_is_refused(
    column: str, kind: pa.DataType, says: str
) -> None:
    data, rows = click_data(features=FEATURES), random_rows(fresh_generator(), 1)
    place = rows.schema.names.index(column)
    with pytest.raises(DataError, match=says):
        column_families(rows.schema.set(place, pa.field(column, kind)), data, "a.parquet")


@pytest.mark.parametrize("kind", [pa.null(), pa.dictionary(pa.int8(), pa.string())])
def test_a_column_without_values_or_of_a_dictionary_is_taken(kind: pa.DataType) -> None:
    data, rows = click_data(features=FEATURES), random_rows(fresh_generator(), 1)
    families = column_families(rows.schema.set(0, pa.field("city", kind)), data, "a.parquet")
    assert families["data.features.city:city"] in ("null", "string")
    assert families["data.features.level:tier"] == "integer"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["b", None, "a", "b", ""]), ("", "a", "b")),
        (pa.array(["b", "a"]).dictionary_encode(), ("a", "b")),
        (pa.chunked_array([[3, None], [-1, 3]]), (-1, 3)),
        (pa.array([2**40, 5], pa.uint64()), (5, 2**40)),
    ],
)
def test_the_vocabulary_of_a_column_is_its_values_sorted(column: Any, expected: Values) -> None:
    found = vocabulary_of(column)
    assert found == expected
    assert (
        Data.model_validate_json(  # as YAML gives it
            click_data(features={"x": {"kind": "one_hot", "vocabulary": found}}).model_dump_json()
        )
        .one_hot_features()[0][1]
        .vocabulary
        == found
    )


@pytest.mark.parametrize("column", [pa.array([1.5]), pa.array([["a"]]), pa.array([True])])
def test_a_column_of_numbers_or_lists_has_no_vocabulary(column: pa.Array) -> None:
    with pytest.raises(ValueError, match="has no vocabulary"):
        vocabulary_of(column)
