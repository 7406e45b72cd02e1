"""What breaks while batches are read: files, labels, the thread."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.data import background, stream
from recsys_mtl.data.plan import plan_of
from recsys_mtl.data.schema import DataError
from tests.unit.data.click_logs import (
    FILES,
    ROW_TABLE_ROWS,
    Log,
    clicks,
    global_batches,
    lanes_of,
    row_numbers,
    write_groups,
    write_log,
)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def overwrite_pages(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4:60] = b"\xff" * 56
    file.write_bytes(bytes(content))


def take_rows(file: Path) -> None:
    write_groups(file, [clicks(0, 3), clicks(3, 2)])


def take_row_groups(file: Path) -> None:
    write_groups(file, [clicks(0, 5)])


def take_a_column(file: Path) -> None:
    groups = [clicks(0, 5).drop_columns("price"), clicks(5, 3).drop_columns("price")]
    write_groups(file, groups)


def change_a_type(file: Path) -> None:
    words = pa.array([1.5] * 5)
    write_groups(file, [clicks(0, 5).set_column(1, "words", words)] * 2)


BREAKAGES = [
    truncate,
    overwrite_pages,
    Path.unlink,
    take_rows,
    take_row_groups,
    take_a_column,
    change_a_type,
]


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_file_broken_in_flight_fails_the_run_by_its_name(tmp_path: Path, breakage: Any) -> None:
    log = Log(write_log(tmp_path, FILES))
    breakage(tmp_path / "part-0.parquet")
    expected = rf"^{tmp_path}/part-0.parquet, row group \d: cannot be read: .*; mend or remove"
    with pytest.raises(DataError, match=expected), log.stream(0, 3) as batches:
        list(batches)


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_skip_trains_on_without_the_rows_of_a_broken_file(
    tmp_path: Path, breakage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(write_log(tmp_path, FILES), on_error="skip")
    undisturbed = global_batches(log, 1, 3)
    breakage(tmp_path / "part-0.parquet")
    with caplog.at_level(logging.WARNING):
        batches = log.batches()
    lost = {row for row in range(8) if row not in row_numbers(batches)}
    assert lost in (set(range(5)), set(range(5, 8)), set(range(8)))  # whole row groups
    assert [batch.rows for batch in batches] == [8, 8, 5]
    assert [sum(batch.counts[i] for batch in batches) for i in (1, 2)] == [len(lost), 0]
    assert sum(batch.nulls.sum() for batch in batches) == 0
    assert sum(int(batch.label_mask.sum()) for batch in batches) == 21 - len(lost)
    assert (
        f"{tmp_path}/part-0.parquet, row group {int(0 not in lost)}: cannot be read" in caplog.text
    )
    # All others stand where they would have stood.
    blank = ((ROW_TABLE_ROWS,), (50,), 0.0, 0.0, False)
    for batch, before in zip(batches, undisturbed, strict=True):
        after = [row for lane in lanes_of(batch, 4) for row in lane]
        expected = [row for lane in before for row in lane]
        assert after == [blank if set(row[0]) & lost else row for row in expected]


def test_damage_that_still_decodes_is_found_by_checksum_and_encoding(tmp_path: Path) -> None:
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    for with_checksum, good, bad in [
        (True, np.float32(2.5).tobytes(), np.float32(99.5).tobytes()),
        (False, b"word4", b"wor\xff4"),
    ]:
        folder = tmp_path / str(with_checksum)
        log = Log(write_log(folder, [[9]], write_page_checksum=with_checksum, **options))
        file = folder / "part-0.parquet"
        assert good in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(good, bad))
        with (
            pytest.raises(DataError, match=r"part-0.parquet, row group 0: cannot be read"),
            log.stream(0, 2) as batches,
        ):
            list(batches)


def test_types_that_no_longer_go_together_fail_the_run(tmp_path: Path) -> None:
    log = Log(write_log(tmp_path, [[4], [4]]), lanes=1, rows_per_lane=8)
    words = pa.array([[1]] * 4)
    pq.write_table(clicks(4, 4).set_column(1, "words", words), tmp_path / "part-1.parquet")
    with (
        pytest.raises(DataError, match=r"part-0.parquet.*: types that do not go together"),
        log.stream(0, 1) as batches,
    ):
        list(batches)


def write_bad_label(folder: Path) -> str:
    labels = pa.array([0, 1, 2, None, 1, 0], pa.int8())
    folder.mkdir(exist_ok=True)
    table = clicks(0, 6).set_column(3, "buy", labels)
    pq.write_table(table, folder / "a.parquet", write_statistics=False)
    return str(folder)


def test_a_bad_label_without_statistics_fails_the_run(tmp_path: Path) -> None:
    log = Log(write_bad_label(tmp_path))
    expected = r"label 'buy' \(data.labels.purchase\) has the value 2 in .*a.parquet; a label is"
    with pytest.raises(DataError, match=expected), log.stream(0, 1) as batches:
        list(batches)


@pytest.mark.parametrize("statistics", [True, False])
def test_skip_leaves_the_row_of_a_bad_label_out(tmp_path: Path, statistics: bool) -> None:
    url = write_bad_label(tmp_path)
    if statistics:
        file = tmp_path / "a.parquet"
        pq.write_table(pq.read_table(file), file)
    log = Log(url, on_error="skip")
    (batch,) = log.batches()
    assert batch.counts.tolist() == [6, 0, 1, 0, 0, 0]
    assert batch.nulls.tolist() == [0, 0, 0, 1]
    known = {row[0][0]: row[4] for lane in lanes_of(batch, 4) for row in lane if row[0]}
    assert known == {0: True, 1: True, 2: False, 3: False, 4: True, 5: True}


def test_any_error_of_the_thread_is_raised_by_the_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(write_log(tmp_path, FILES))

    def explode(*_: object) -> None:
        raise ZeroDivisionError("in the thread")

    monkeypatch.setattr(stream, "encode", explode)
    with pytest.raises(ZeroDivisionError, match="in the thread"), log.stream(0, 3) as batches:
        list(batches)


def test_batches_before_an_error_are_still_given(tmp_path: Path) -> None:
    log = Log(write_log(tmp_path, [[8], [8]]), lanes=1, rows_per_lane=4)
    log.plan = plan_of(log.manifest, log.data, global_batch_size=4, seed=None)
    truncate(tmp_path / "part-1.parquet")
    given: list[int] = []
    with pytest.raises(DataError), log.stream(0, 4) as batches:
        given.extend(batch.step for batch in batches)
    assert given == [0, 1]


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_leaving_early_ends_the_thread(tmp_path: Path, taken: int) -> None:
    log = Log(write_log(tmp_path, [[50] * 4]), rows_per_lane=1, prefetch_batches=1)
    with at_most(5), log.stream(0, 50) as batches:
        for _ in zip(range(taken), batches, strict=False):
            pass


def test_an_error_of_the_training_loop_ends_the_thread(tmp_path: Path) -> None:
    log = Log(write_log(tmp_path, [[50] * 4]), rows_per_lane=1, prefetch_batches=1)

    def train() -> None:
        with log.stream(0, 50) as batches:
            next(iter(batches))
            raise KeyError

    with at_most(5), pytest.raises(KeyError):
        train()


def test_reading_stays_within_the_prefetch(tmp_path: Path) -> None:
    log = Log(write_log(tmp_path, [[20]]), lanes=1, rows_per_lane=1, prefetch_batches=3)
    with log.stream(0, 20) as batches:
        time.sleep(0.3)
        assert batches._queue.qsize() == 3
        assert len(list(batches)) == 20


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[stream.BatchStream]:
    """A stream whose first read does not end before the test does."""
    answer = threading.Event()
    monkeypatch.setattr(background, "_STOP_SECONDS", 0.1)
    monkeypatch.setattr(background, "_READ_SECONDS", 0.2)
    monkeypatch.setattr(stream, "encode", lambda *_: answer.wait(20))
    batches = Log(write_log(tmp_path, FILES)).stream(0, 3)
    yield batches
    answer.set()
    batches._thread.join(5)


def test_a_read_that_hangs_does_not_hold_up_the_error_that_ends_the_run(
    hanging: stream.BatchStream,
) -> None:
    with at_most(5), pytest.raises(KeyError), hanging:
        raise KeyError


def test_a_read_that_hangs_ends_the_run_when_it_has_been_waited_for(
    hanging: stream.BatchStream,
) -> None:
    with at_most(5), pytest.raises(TimeoutError, match=r"no rows for 0\.2 s"), hanging:
        next(iter(hanging))


def test_iterating_again_ends_at_once_instead_of_waiting(tmp_path: Path) -> None:
    log = Log(write_log(tmp_path, FILES))
    with at_most(5):
        with log.stream(0, 3) as batches:
            assert len(list(batches)) == 3
            assert list(batches) == []
        with log.stream(0, 3) as batches:
            iterator = iter(batches)
            next(iterator)
        assert list(iterator) == []


def test_iterating_without_the_block_is_refused(tmp_path: Path) -> None:
    log = Log(write_log(tmp_path, FILES))
    with pytest.raises(AssertionError, match="`with` block"):
        next(iter(log.stream(0, 3)))


def test_a_stream_of_no_steps_is_empty(tmp_path: Path) -> None:
    assert Log(write_log(tmp_path, FILES)).batches(2, 2) == []
