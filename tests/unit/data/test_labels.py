"""Which rows count for a task, and how much: sample_weight, only_where, event_time and window."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from recsys_mtl.config import Data
from recsys_mtl.data.batch import assemble
from recsys_mtl.data.event_times import EventTimes
from recsys_mtl.data.features import REJECT_REASONS, REJECTED, EncodedRows, encode
from recsys_mtl.data.schema import DataError
from tests.unit.data.click_logs import click_data

NS = 1_000_000_000
DAY = 86_400
NOON = 1_780_000_000
"""Unix seconds of the last event."""
FEATURES = {"x": {"kind": "dense"}}
WINDOW = {"column": "buy", "event_time": "t", "window": "3d"}


def rows_of(
    label: Any, *, more: Mapping[str, Any] | None = None, on_error: str = "fail", **columns: Any
) -> EncodedRows:
    """Rows with these columns, whose task `purchase` has this label."""
    data = data_of(label, more=more, on_error=on_error)
    rows = len(next(iter(columns.values())))
    table = pa.table({"x": [0.0] * rows} | columns | {REJECTED: pa.repeat(False, rows)})
    return encode(table, data, "log.parquet", {"t": EventTimes(0, NOON * NS)})


def data_of(label: Any, *, more: Mapping[str, Any] | None = None, on_error: str = "fail") -> Data:
    labels = {"purchase": label} | dict(more or {})
    return click_data(features=FEATURES, labels=labels, on_error=on_error)


def counting(rows: EncodedRows, task: int = 0) -> list[bool]:
    return [bool(counts) for counts in rows.label_mask[:, task]]


def reasons(rows: EncodedRows) -> list[str]:
    return [
        " ".join(name for name, hit in zip(REJECT_REASONS, row, strict=True) if hit)
        for row in rows.rejected
    ]


def refusal(label: Any, **columns: Any) -> str:
    with pytest.raises(DataError) as caught:
        rows_of(label, **columns)
    return str(caught.value)


def test_rows_without_weights_have_none() -> None:
    assert rows_of("buy", buy=[0, 1]).label_weights is None
    assert rows_of({"column": "buy", "loss_weight": 3.0}, buy=[0, 1]).label_weights is None


def test_a_row_of_weight_0_does_not_count_and_others_have_their_weight() -> None:
    rows = rows_of({"column": "buy", "sample_weight": "w"}, buy=[0, 1, 1, None], w=[0, 2, 0.5, 7])
    assert counting(rows) == [False, True, True, False]
    assert rows.label_weights is not None
    assert rows.label_weights[:, 0].tolist() == [0.0, 2.0, 0.5, 0.0]


def test_beside_a_task_with_weights_the_rows_of_another_count_once() -> None:
    rows = rows_of(
        {"column": "buy", "sample_weight": "w"}, more={"cart": "cart"},
        buy=[0, 1, 1], w=[3, 2, 0], cart=[1, None, 0],
    )  # fmt: skip
    assert rows.label_weights is not None
    assert rows.label_weights.tolist() == [[3, 1], [2, 0], [0, 1]]
    assert counting(rows, task=1) == [True, False, True]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(20, 1)])
def test_weights_are_of_any_numeric_type(kind: pa.DataType) -> None:
    weights = pa.array([3, 1]).cast(kind)
    rows = rows_of({"column": "buy", "sample_weight": "w"}, buy=[0, 1], w=weights)
    assert rows.label_weights is not None
    assert rows.label_weights[:, 0].tolist() == [3.0, 1.0]


@pytest.mark.parametrize("absent", [None, math.nan])
def test_a_row_that_does_not_count_needs_no_weight(absent: float | None) -> None:
    label = {"column": "buy", "sample_weight": "w", "only_where": "click"}
    rows = rows_of(label, buy=[None, 0, 1], click=[1, 0, 1], w=pa.array([absent, absent, 2.0]))
    assert counting(rows) == [False, False, True]
    assert reasons(rows) == ["", "", ""]


@pytest.mark.parametrize(
    ("weight", "spelled"),
    [(None, "null"), (math.nan, "null"), (-0.5, "-0.5"), (math.inf, "inf"), (1e31, "1e+31")],
)
def test_a_weight_that_is_none_is_refused_or_its_row_is_left_out(
    weight: float | None, spelled: str
) -> None:
    label = {"column": "buy", "sample_weight": "w"}
    weights = pa.array([1.0, weight], pa.float64())
    message = refusal(label, buy=[0, 1], w=weights)
    assert message.startswith(
        f"sample_weight 'w' (data.labels.purchase) has the value {spelled} in log.parquet; a weight"
    )
    rows = rows_of(
        label, on_error="skip", more={"cart": "cart"}, buy=[0, 1], w=weights, cart=[1, 1]
    )
    assert reasons(rows) == ["", "sample_weight"]
    assert rows.label_mask.tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("kind", [pa.int8(), pa.bool_(), pa.float64()])
def test_only_where_counts_rows_of_1_and_neither_0_nor_null(kind: pa.DataType) -> None:
    clicked = pa.array([1, 0, None, 1]).cast(kind)
    rows = rows_of({"column": "buy", "only_where": "click"}, buy=[0, 1, 1, None], click=clicked)
    assert counting(rows) == [True, False, False, False]
    assert rows.labels[:, 0].tolist() == [0.0, 0.0, 0.0, 0.0], "0 where masked"


def test_only_where_may_be_another_task_s_label_and_leaves_that_task_alone() -> None:
    rows = rows_of(
        {"column": "buy", "only_where": "click"}, more={"click": "click"},
        buy=[0, 1, 1], click=[1, 0, None],
    )  # fmt: skip
    assert counting(rows) == [True, False, False]
    assert counting(rows, task=1) == [True, True, False]


def test_only_where_of_another_value_is_refused_or_its_row_is_left_out() -> None:
    label = {"column": "buy", "only_where": "click"}
    expected = "only_where 'click' (data.labels.purchase) has the value 2 in log.parquet; it is 1"
    assert refusal(label, buy=[0, 1], click=[1, 2]).startswith(expected)
    assert reasons(rows_of(label, on_error="skip", buy=[0, 1], click=[1, 2])) == ["", "only_where"]


def times(ages: Sequence[float | None], kind: pa.DataType) -> pa.Array:
    """Rows so many seconds older than the last event."""
    seconds = [None if age is None else NOON - age for age in ages]
    if pa.types.is_timestamp(kind):
        counts = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        return pa.array([None if s is None else round(s * counts) for s in seconds]).cast(kind)
    return pa.array(seconds, pa.int64()).cast(kind)


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
        pa.timestamp("us", "Europe/Berlin"),
        pa.int64(),
        pa.uint32(),
    ],
)
def test_a_window_masks_negatives_younger_than_itself_and_no_positive(kind: pa.DataType) -> None:
    ages = [0, 3 * DAY - 1, 3 * DAY, 30 * DAY, 0, None, None]
    buy = [0, 0, 0, 0, 1, 0, 1]
    rows = rows_of(WINDOW, buy=buy, t=times(ages, kind))
    assert counting(rows) == [False, False, True, True, True, False, True]


def test_a_window_is_exact_to_a_nanosecond() -> None:
    edge = (NOON - 3 * DAY) * NS
    column = pa.array([edge + 1, edge]).cast(pa.timestamp("ns"))
    assert counting(rows_of(WINDOW, buy=[0, 0], t=column)) == [False, True]


def test_dates_begin_at_midnight_in_utc() -> None:
    today = NOON // DAY
    column = pa.array([today, today - 2, today - 3], pa.int32()).cast(pa.date32())
    assert counting(rows_of(WINDOW, buy=[0, 0, 0], t=column)) == [False, False, True]


@pytest.mark.parametrize(
    ("value", "kind", "spelled"),
    [
        (NOON * 1_000, pa.int64(), str(NOON * 1_000)),  # milliseconds
        (-1, pa.int64(), "-1"),
        (2**64 - 1, pa.uint64(), str(2**64 - 1)),
        (253_402_214_400, pa.timestamp("s"), "9999-12-31T00:00:00"),
    ],
)
def test_a_value_that_is_no_time_is_refused_or_its_row_is_left_out(
    value: int, kind: pa.DataType, spelled: str
) -> None:
    integers = pa.uint64() if pa.types.is_uint64(kind) else pa.int64()
    column = pa.array([0, value], integers).cast(kind)
    expected = f"event_time 't' (data.labels.purchase) has the value {spelled} in log.parquet; an"
    assert refusal(WINDOW, buy=[0, 1], t=column).startswith(expected)
    assert reasons(rows_of(WINDOW, on_error="skip", buy=[0, 1], t=column)) == ["", "event_time"]


def test_a_row_is_rejected_for_its_first_reason_alone() -> None:
    rows = rows_of(
        WINDOW | {"sample_weight": "w"}, on_error="skip",
        buy=[2, 1, 1], w=[-1, -1, 1], t=[-1, -1, NOON],
    )  # fmt: skip
    assert reasons(rows) == ["label", "sample_weight", ""]


def test_a_batch_has_weights_with_0_for_padding_and_none_where_no_task_weighs() -> None:
    label = {"column": "buy", "sample_weight": "w"}
    rows = rows_of(label, buy=[0, 1, 1], w=[3, 2, 4])
    batch = assemble(0, [[rows.slice(0, 1)], [rows.slice(1, 3)]], 3, data_of(label))
    assert batch.label_weights is not None
    assert batch.label_weights[:, 0].tolist() == [3, 0, 0, 2, 4, 0]
    plain = assemble(0, [[rows_of("buy", buy=[0])]], 3, data_of("buy"))
    assert plain.label_weights is None
