"""Batches of real Parquet files: each row once, the same for any workers, from any step on."""

import math
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.data.plan import plan_of
from tests.unit.data.click_logs import (
    FILES,
    Log,
    clicks,
    fresh_generator,
    global_batches,
    lanes_of,
    row_numbers,
    write_groups,
    write_log,
)


def planned_rows(log: Log, epoch: int, lane: int) -> list[int]:
    """Numbers of a lane's rows in the order that the plan gives."""
    firsts = np.cumsum([0, *log.plan.row_counts])
    numbers = []
    for window in log.plan.windows(epoch, lane):
        rows = [firsts[s.row_group] + row for s in window.spans for row in range(s.start, s.stop)]
        numbers += [int(rows[place]) for place in window.order()]
    return numbers


@pytest.mark.parametrize("files", [FILES, [[1]], [[2], [2]], [[40]], [[1] * 9]])
@pytest.mark.parametrize(
    ("world_size", "lanes"), [(1, 4), (2, 4), (3, 4), (4, 4), (3, 8), (5, 8), (8, 8)]
)
def test_each_row_is_trained_once_an_epoch_over_all_workers(
    tmp_path: Path, files: list[list[int]], world_size: int, lanes: int
) -> None:
    log = Log(write_log(tmp_path, files), lanes=lanes)
    lanes_per_worker = math.ceil(lanes / world_size)
    steps = log.plan.steps_per_epoch
    seen: list[list[int]] = [[], []]
    for rank in range(world_size):
        with log.stream(0, 2 * steps, rank=rank, world_size=world_size) as batches:
            found = list(batches)
        assert len(found) == 2 * steps
        assert {len(b.dense) for b in found} == {lanes_per_worker * log.plan.rows_per_lane}
        seen[0] += row_numbers(found[:steps])
        seen[1] += row_numbers(found[steps:])
        assert sum(batch.rows for batch in found) == len(row_numbers(found))
    everything = list(range(sum(sum(file) for file in files)))
    assert sorted(seen[0]) == sorted(seen[1]) == everything


def test_batches_hold_the_rows_of_the_plan_in_its_order(tmp_path: Path) -> None:
    log = Log(write_log(tmp_path, FILES))
    steps = global_batches(log, 1, 2 * log.plan.steps_per_epoch)
    for epoch in (0, 1):
        part = steps[epoch * log.plan.steps_per_epoch :][: log.plan.steps_per_epoch]
        for lane in range(log.data.lanes):
            rows = [row for step in part for row in step[lane] if row[0]]
            assert [row[0][0] for row in rows] == planned_rows(log, epoch, lane)


def test_the_columns_of_a_row_stay_together(tmp_path: Path) -> None:
    log = Log(write_log(tmp_path, FILES))
    word_rows: dict[int, int] = {}
    for (number,), words, price, label, known in (
        row for step in global_batches(log, 1, 3) for lane in step for row in lane if row[0]
    ):
        assert (len(words), price, label) == (number % 3, number / 2, float(number % 3 == 0))
        assert known
        assert len(set(words)) <= 1
        if words:
            word_rows[number] = words[0]
    assert len(set(word_rows.values())) > 5  # the words of different rows do differ


@pytest.mark.parametrize("lanes", [4, 8])
def test_any_number_of_workers_shares_the_same_global_batches(tmp_path: Path, lanes: int) -> None:
    log = Log(write_log(tmp_path, FILES), lanes=lanes)
    one = global_batches(log, 1, 7)
    for world_size in range(2, lanes + 1):
        assert global_batches(log, world_size, 7) == one, world_size


@pytest.mark.parametrize("shuffle_window_row_groups", [1, 2, 3])
def test_a_stream_from_any_step_is_the_rest_of_the_whole_one(
    tmp_path: Path, shuffle_window_row_groups: int
) -> None:
    log = Log(write_log(tmp_path, FILES), shuffle_window_row_groups=shuffle_window_row_groups)
    last = 2 * log.plan.steps_per_epoch + 1
    whole = [lanes_of(batch, 4) for batch in log.batches(0, last)]
    for first in range(last + 1):
        rest = log.batches(first, last)
        assert [batch.step for batch in rest] == list(range(first, last))
        assert [lanes_of(batch, 4) for batch in rest] == whole[first:]


def test_random_logs_are_trained_whole_and_resumed_exactly(tmp_path: Path) -> None:
    generator = fresh_generator()
    for case in range(8):
        files = [generator.integers(1, 30, n).tolist() for n in generator.integers(1, 5, 3)]
        log = Log(
            write_log(tmp_path / str(case), files),
            rows_per_lane=int(generator.integers(1, 9)),
            lanes=int(generator.integers(1, 6)),
            shuffle_window_row_groups=int(generator.integers(1, 5)),
        )
        whole = log.batches()
        assert sorted(row_numbers(whole)) == list(range(sum(map(sum, files))))
        first = int(generator.integers(0, len(whole) + 1))
        assert row_numbers(log.batches(first)) == row_numbers(whole[first:])


def test_exhausted_lanes_are_padded_and_rows_counted(tmp_path: Path) -> None:
    log = Log(write_log(tmp_path, FILES))
    batches = log.batches()
    assert [batch.rows for batch in batches] == [8, 8, 5]
    assert batches[-1].label_mask.sum() == 5
    with log.stream(0, 3, rank=0, world_size=4) as of_one_lane:
        assert [batch.rows for batch in of_one_lane] == [2, 2, 1]
    one_row = Log(write_log(tmp_path / "one", [[1]]))
    with one_row.stream(0, 1, rank=0, world_size=4) as of_padding:
        (batch,) = of_padding
    assert (batch.rows, int(batch.label_mask.sum()), batch.nulls.tolist()) == (0, 0, [0] * 4)


def test_evaluation_reads_the_rows_in_the_order_of_the_files(tmp_path: Path) -> None:
    log = Log(write_log(tmp_path, FILES), lanes=1)
    log.plan = plan_of(log.manifest, log.data, global_batch_size=8, seed=None)
    assert row_numbers(log.batches()) == list(range(21))


def test_a_window_joins_files_of_different_integer_widths_and_encodings(tmp_path: Path) -> None:
    plain = clicks(0, 4)
    columns = [pa.array(["a", "b", None, "a"]), pa.array(["b", "a", "a", None])]
    for place, kind in enumerate((pa.int32(), pa.int64())):
        city = columns[place].dictionary_encode() if place else columns[place]
        pq.write_table(
            plain.set_column(0, "row", pa.array(range(4 * place, 4 * place + 4), kind))
            .append_column("city", city)
            .append_column("empty", [pa.nulls(4), pa.array([[1]] * 4)][place]),
            tmp_path / f"{place}.parquet",
        )
    features = {
        name: {"kind": "id", "rows": 1000, "embedding_dim": 4} for name in ("row", "city", "empty")
    }
    # Rows of a window are joined; the result must not depend on what shares the window.
    seen = []
    for window in (1, 2):
        log = Log(str(tmp_path), lanes=1, shuffle_window_row_groups=window, features=features)
        rows = {row[0][0]: row for (lane,) in global_batches(log, 1, 4) for row in lane}
        seen.append(rows)
    assert seen[0] == seen[1]
    cities = [seen[0][number][1][0] for number in range(8)]
    a, b = cities[:2]
    assert a != b
    assert cities == [a, b, 1000, a, b, a, a, 1000]
    assert [seen[0][number][2] for number in range(8)] == [(1000,)] * 4 + [(1,)] * 4


def test_lists_of_every_storage_are_read(tmp_path: Path) -> None:
    lists = [["a", "b"], None, ["b", None]]
    kinds = [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.string_view()),
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
        pa.list_(pa.string(), 2),
    ]
    found = []
    for place, kind in enumerate(kinds):
        table = clicks(0, 3).set_column(1, "words", pa.array(lists, kind))
        pq.write_table(table, tmp_path / f"{place}.parquet")
        log = Log(str(tmp_path / f"{place}.parquet"), lanes=1, rows_per_lane=3)
        (batch,) = log.batches()
        found.append(sorted(row[:2] for row in lanes_of(batch, 1)[0]))
        assert batch.nulls.tolist() == [0, 2, 0, 0]
    assert all(rows == found[0] for rows in found)
    (_, first), (_, second), (_, third) = found[0]
    assert (second, third) == ((50,), (first[1], 50))


def test_decimals_and_booleans_are_numbers_beside_integers(tmp_path: Path) -> None:
    for place, kind in enumerate((pa.decimal32(5, 2), pa.bool_(), pa.int64())):
        table = clicks(4 * place, 4)
        buy = table["buy"].cast(pa.float64()).cast(kind)
        pq.write_table(table.set_column(3, "buy", buy), tmp_path / f"{place}.parquet")
    log = Log(str(tmp_path), lanes=1, rows_per_lane=12, shuffle_window_row_groups=3)
    (batch,) = log.batches()
    found = sorted((row[0][0], row[3], row[4]) for row in lanes_of(batch, 1)[0])
    assert found == [(i, float(i % 3 == 0), True) for i in range(12)]


def test_a_log_may_lie_on_any_file_system() -> None:
    filesystem = fsspec.filesystem("memory")
    try:
        with filesystem.open("/clicks/a.parquet", "wb") as handle:
            write_groups(handle, [clicks(0, 5), clicks(5, 4)])
        log = Log("memory://clicks")
        assert sorted(row_numbers(log.batches())) == list(range(9))
    finally:
        filesystem.rm("/clicks", recursive=True)
