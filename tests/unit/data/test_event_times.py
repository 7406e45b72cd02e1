"""When a log ends, whatever its files and footers are like."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.config import Data
from recsys_mtl.data.event_times import EventTimes, refuse_too_short_logs
from recsys_mtl.data.manifest import Manifest, read_manifest
from recsys_mtl.data.schema import DataError
from tests.unit.data.click_logs import Log, click_data, clicks, fresh_generator, write_groups
from tests.unit.data.test_labels import DAY, NOON, NS, WINDOW

KINDS = [
    *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    pa.timestamp("us", "UTC"),
    pa.date32(),
    pa.int64(),
    pa.uint32(),
]


def data_of(**settings: Any) -> Data:
    return click_data(labels={"purchase": WINDOW}, **settings)


def with_times(first_row: int, column: pa.Array) -> pa.Table:
    return clicks(first_row, len(column)).append_column("t", column)


def seconds(*values: int | None) -> pa.Array:
    return pa.array(values, pa.int64())


def listed(folder: Path, **settings: Any) -> Manifest:
    return read_manifest(str(folder), data_of(**settings))


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        listed(folder, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        pa.int64(),
        pa.uint32(),
        *(pa.timestamp(u) for u in ("s", "ms", "us", "ns")),
        pa.timestamp("us", "UTC"),
        pa.date32(),
    ],
)
def test_a_log_ends_with_the_last_event_of_any_file(
    tmp_path: Path, kind: pa.DataType, statistics: bool
) -> None:
    rng = fresh_generator()
    unit = DAY if pa.types.is_date(kind) else 1
    drawn = rng.integers(0, NOON // unit, (3, 5))
    for place, counts in enumerate(drawn):
        integers = pa.array(counts, pa.int32() if unit == DAY else pa.int64())
        times = integers.cast(pa.timestamp("s")) if pa.types.is_timestamp(kind) else integers
        groups = [with_times(0, times.cast(kind)), with_times(5, pa.nulls(2, kind))]
        file = tmp_path / f"{place}.parquet"
        write_groups(file, groups, write_statistics=statistics)
    expected = EventTimes(int(drawn.min()) * unit * NS, int(drawn.max()) * unit * NS)
    assert listed(tmp_path).event_times == {"t": expected}


def test_a_log_without_windows_has_no_event_times(tmp_path: Path) -> None:
    pq.write_table(with_times(0, seconds(NOON)), tmp_path / "a.parquet")
    assert read_manifest(str(tmp_path), click_data()).event_times == {}


def test_times_of_several_units_and_zones_are_one_log_s(tmp_path: Path) -> None:
    kinds = [pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns", "Asia/Tokyo")]
    for place, kind in enumerate(kinds):
        age = place * 2 * DAY
        times = seconds(NOON - age, NOON - age).cast(pa.timestamp("s")).cast(kind)
        pq.write_table(with_times(2 * place + 1, times), tmp_path / f"{place}.parquet")
    log = Log(str(tmp_path), labels={"purchase": WINDOW})
    assert log.manifest.event_times["t"].last_ns == NOON * NS
    (batch,) = log.batches()
    # Rows 3 and 6 are bought; of the others 5 alone, the first four being 0 and 2 days old.
    assert batch.ids is not None
    numbers, lengths = batch.ids.bags_of("row")
    counting = numbers[batch.label_mask[:, 0][lengths > 0]]
    assert sorted(counting.tolist()) == [3, 5, 6]


def test_every_worker_masks_by_the_whole_log_s_end(tmp_path: Path) -> None:
    ages = [9 * DAY, 8 * DAY, 7 * DAY, 0]
    for place, age in enumerate(ages):  # the newest row lies in a file of its own
        pq.write_table(
            with_times(3 * place + 1, seconds(NOON - age)), tmp_path / f"{place}.parquet"
        )
    log = Log(str(tmp_path), labels={"purchase": WINDOW}, lanes=4, rows_per_lane=1)
    found = {}
    for rank in range(4):
        with log.stream(0, 1, rank=rank, world_size=4) as batches:
            (batch,) = batches
        assert batch.ids is not None
        found[batch.ids.values[0].item()] = batch.label_mask[0, 0].item()
    assert found == {1: True, 4: True, 7: True, 10: False}


@pytest.mark.parametrize("statistics", [True, False])
def test_a_value_that_is_no_time_is_refused_before_training(
    tmp_path: Path, statistics: bool
) -> None:
    groups = [with_times(0, seconds(NOON)), with_times(1, seconds(NOON, NOON * 1_000))]
    write_groups(tmp_path / "a.parquet", groups, write_statistics=statistics)
    message = refusal(tmp_path)
    assert f"has the value {NOON * 1_000} in " in message
    assert "a.parquet, row group 1; an event_time lies in 1970 to 2099" in message


@pytest.mark.parametrize("statistics", [True, False])
def test_with_skip_a_value_that_is_no_time_does_not_end_the_log(
    tmp_path: Path, statistics: bool
) -> None:
    never = pa.array([NOON, 253_402_214_400], pa.int64()).cast(pa.timestamp("s"))
    write_groups(tmp_path / "a.parquet", [with_times(0, never)], write_statistics=statistics)
    found = listed(tmp_path, on_error="skip").event_times["t"]
    assert found.last_ns == NOON * NS


def test_a_log_without_any_time_is_refused(tmp_path: Path) -> None:
    pq.write_table(with_times(0, seconds(None, None)), tmp_path / "a.parquet")
    assert refusal(tmp_path).startswith(
        "column 't' (data.labels.purchase.event_time) holds no time at all in "
    )


@pytest.mark.parametrize("values", [["2026-11-01"], [1.5], [True], [[NOON]]])
def test_a_column_that_holds_no_times_is_refused(tmp_path: Path, values: list[Any]) -> None:
    pq.write_table(with_times(0, pa.array(values)), tmp_path / "a.parquet")
    message = refusal(tmp_path)
    assert message.startswith("column 't' (data.labels.purchase.event_time) in ")
    assert message.endswith("it must hold timestamps, dates or integers (Unix seconds)")


def test_dates_and_integers_are_not_mixed(tmp_path: Path) -> None:
    pq.write_table(with_times(0, seconds(NOON)), tmp_path / "a.parquet")
    dates = pa.array([20_000], pa.int32()).cast(pa.date32())
    pq.write_table(with_times(1, dates), tmp_path / "b.parquet")
    assert "holds type date in" in refusal(tmp_path)


def test_a_missing_column_is_named_with_its_setting(tmp_path: Path) -> None:
    pq.write_table(clicks(0, 2), tmp_path / "a.parquet")
    assert refusal(tmp_path).startswith(
        "column 't' (data.labels.purchase.event_time) is missing in "
    )


@pytest.mark.parametrize(
    ("label", "values", "told"),
    [
        ({"sample_weight": "t"}, [1, -2], "sample_weight 't' (data.labels.purchase) has the value"),
        ({"only_where": "t"}, [1, 2], "only_where 't' (data.labels.purchase) has the value 2 in "),
        ({"sample_weight": "t"}, ["1"], "column 't' (data.labels.purchase.sample_weight) in "),
    ],
)
def test_what_footers_show_to_be_unusable_is_refused_before_training(
    tmp_path: Path, label: dict[str, str], values: list[Any], told: str
) -> None:
    pq.write_table(with_times(0, pa.array(values)), tmp_path / "a.parquet")
    with pytest.raises(DataError) as caught:
        read_manifest(str(tmp_path), click_data(labels={"purchase": {"column": "buy"} | label}))
    assert str(caught.value).startswith(told)


def test_a_training_log_shorter_than_a_window_is_refused_and_one_as_long_is_not() -> None:
    times = {"t": EventTimes((NOON - 3 * DAY) * NS, NOON * NS)}
    refuse_too_short_logs(times, data_of(), "log")
    times = {"t": EventTimes((NOON - 2 * DAY) * NS, NOON * NS)}
    expected = r"data.labels.purchase.window is 3d, but 't' spans only 48 hours in log, so no neg"
    with pytest.raises(DataError, match=expected):
        refuse_too_short_logs(times, data_of(), "log")
