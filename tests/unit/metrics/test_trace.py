"""The trace survives kills, and reads as training went in the end."""

import secrets
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest

from recsys_mtl.metrics.columns import Column
from recsys_mtl.metrics.record import record_rows
from recsys_mtl.metrics.trace import TraceWriter, next_attempt, read_trace
from tests.unit.metrics.records import MADE_UP_COLUMNS, record

COLUMNS = (
    Column("step", "count", "The step."),
    Column("attempt", "count", "The attempt."),
    Column("loss", "number", "The loss.", ("cart",)),
)


def row(step: int, attempt: int = 1, **values: Any) -> dict[str, Any]:
    return {"step": step, "attempt": attempt, "loss_cart": 0.5 * attempt, **values}


def write(url: str, attempt: int, steps: range, part_steps: int = 3) -> None:
    writer = TraceWriter(url, attempt, COLUMNS)
    for first in range(steps.start, steps.stop, part_steps):
        part = range(first, min(first + part_steps, steps.stop))
        writer.append(row(step, attempt) for step in part)
        writer.flush()


def steps_and_attempts(url: str) -> list[tuple[int, int]]:
    table = read_trace(url)
    return list(zip(table["step"].to_pylist(), table["attempt"].to_pylist(), strict=True))


@pytest.fixture(params=["local folder", "object store"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local folder":
        return str(tmp_path / "run" / "trace")
    return f"memory://{secrets.token_hex(8)}/trace"


def test_rows_come_back_as_they_were_written(url: str) -> None:
    columns = [
        *COLUMNS,
        Column("conflict", "flag", "A flag."),
        Column("epoch", "count", "A count."),
    ]
    rows = [
        row(step, loss_cart=-step / 3, conflict=step == 1, epoch=step // 2) for step in range(3)
    ]
    writer = TraceWriter(url, 1, columns)
    writer.append(rows[:2])
    writer.append(rows[2:])
    writer.flush()
    assert read_trace(url).to_pylist() == rows


def test_columns_have_the_type_of_their_kind_even_when_a_number_is_whole(url: str) -> None:
    columns = [*COLUMNS, Column("skipped", "flag", "A flag.")]
    writer = TraceWriter(url, 1, columns)
    writer.append([row(0, loss_cart=0, skipped=False), row(1, loss_cart=0.5, skipped=True)])
    writer.flush()
    types = {field.name: str(field.type) for field in read_trace(url).schema}
    assert types == {"step": "int64", "attempt": "int64", "loss_cart": "double", "skipped": "bool"}
    assert read_trace(url)["loss_cart"].to_pylist() == [0.0, 0.5]


def test_what_a_method_of_one_s_own_reports_is_in_the_trace(url: str) -> None:
    rows = record_rows(
        [record(), record()], MADE_UP_COLUMNS, last_step=2, attempt=2, steps_per_epoch=3
    )
    writer = TraceWriter(url, 2, MADE_UP_COLUMNS)
    writer.append(rows)
    writer.flush()
    types = {field.name: str(field.type) for field in read_trace(url).schema}
    assert [types[c.name] for c in MADE_UP_COLUMNS if c.of_method] == [*["double"] * 4, "bool"]
    assert list(types) == [column.name for column in MADE_UP_COLUMNS]


def test_a_restart_replaces_every_row_from_its_first_step_on(url: str) -> None:
    write(url, 1, range(8))
    write(url, 2, range(4, 6))
    assert steps_and_attempts(url) == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]
    write(url, 3, range(2, 5))
    assert steps_and_attempts(url) == [(0, 1), (1, 1), (2, 3), (3, 3), (4, 3)]


def test_a_restart_that_lost_nothing_replaces_nothing(url: str) -> None:
    write(url, 1, range(4))
    write(url, 2, range(4, 6))
    assert [attempt for _, attempt in steps_and_attempts(url)] == [1, 1, 1, 1, 2, 2]


def test_steps_are_sorted_as_numbers_across_attempts_and_parts(url: str) -> None:
    write(url, 9_999, range(8, 101), part_steps=7)
    write(url, 10_000, range(101, 110), part_steps=4)
    assert [step for step, _ in steps_and_attempts(url)] == list(range(8, 110))


def test_next_attempt_is_one_more_than_the_highest_written(url: str) -> None:
    assert next_attempt(url) == 1
    write(url, 1, range(2))
    assert next_attempt(url) == 2
    write(url, 10_000, range(1))
    assert next_attempt(url) == 10_001


def test_one_file_is_written_per_flush_that_has_rows(tmp_path: Path) -> None:
    writer = TraceWriter(str(tmp_path), 2, COLUMNS)
    writer.flush()
    writer.append([row(7, 2), row(8, 2)])
    writer.flush()
    writer.flush()
    writer.append([row(9, 2)])
    writer.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "part-0002-0000000007.parquet",
        "part-0002-0000000009.parquet",
    ]


def test_what_a_kill_left_half_written_is_not_read(tmp_path: Path) -> None:
    write(str(tmp_path), 1, range(3))
    (tmp_path / "part-0002-0000000001.parquet.tmp").write_bytes(b"PAR1 half a part")
    (tmp_path / "notes.parquet").write_bytes(b"not ours")
    assert [step for step, _ in steps_and_attempts(str(tmp_path))] == [0, 1, 2]
    assert next_attempt(str(tmp_path)) == 2


def test_a_part_has_its_name_only_once_it_is_whole_and_a_failed_write_keeps_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = TraceWriter(str(tmp_path), 1, COLUMNS)
    writer.append([row(0)])

    def fill_the_disk(table: Any, file: Any) -> None:
        file.write(b"PAR1")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", fill_the_disk)
        with pytest.raises(OSError, match="No space"):
            writer.flush()
    assert list(tmp_path.glob("*.parquet")) == []
    writer.flush()
    assert steps_and_attempts(str(tmp_path)) == [(0, 1)]


def test_only_the_columns_asked_for_are_returned_in_their_order(url: str) -> None:
    write(url, 1, range(4))
    write(url, 2, range(2, 3))
    table = read_trace(url, columns=["loss_cart", "attempt"])
    assert table.column_names == ["loss_cart", "attempt"]
    assert table["loss_cart"].to_pylist() == [0.5, 0.5, 1.0]


def test_a_column_new_in_a_later_attempt_is_null_before(url: str) -> None:
    write(url, 1, range(2))
    later = TraceWriter(url, 2, [*COLUMNS, Column("seconds_read", "number", "A number.")])
    later.append([row(2, 2, seconds_read=0.5)])
    later.flush()
    assert read_trace(url, columns=["seconds_read"])["seconds_read"].to_pylist() == [
        None,
        None,
        0.5,
    ]


def test_an_unknown_column_is_named(url: str) -> None:
    write(url, 1, range(1))
    with pytest.raises(ValueError, match=r"no column.*loss_cat"):
        read_trace(url, columns=["step", "loss_cat"])


def test_a_missing_or_empty_folder_is_named(url: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"no trace in .*trace"):
        read_trace(url)
    filesystem, folder = fsspec.core.url_to_fs(url)
    filesystem.makedirs(folder)
    with pytest.raises(FileNotFoundError, match=r"no trace in .*trace"):
        read_trace(url)


def test_a_broken_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-0001-0000000000.parquet").write_bytes(b"not Parquet at all")
    with pytest.raises(ValueError, match=r"part-0001-0000000000.parquet is not a readable part"):
        read_trace(str(tmp_path))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"step": 0, "attempt": 1}], "'loss_cart'.* not in both"),
        ([row(0), row(1, loss_wish=0.1)], "'loss_wish'.* not in both"),
        ([row(0, attempt=2)], "attempt 2 .* attempt 1"),
        ([row(4), row(4)], "step 4 .* after step 4"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(
    url: str, rows: list[dict[str, Any]], message: str
) -> None:
    writer = TraceWriter(url, 1, COLUMNS)
    with pytest.raises(ValueError, match=message):
        writer.append(rows)
