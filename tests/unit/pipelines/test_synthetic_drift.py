"""The synthetic click log that drifts: what changes from day to day, and what does not."""

import json
import secrets
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.synthetic_clicks import main, write_click_log
from pipelines.synthetic_drift import DRIFTING, ids_by_rank
from pipelines.synthetic_world import ID_COLUMNS

CARDINALITY = {column.name: column.cardinality for column in ID_COLUMNS}


@pytest.fixture
def seed() -> int:
    drawn = secrets.randbelow(2**31)
    print(f"seed {drawn}")
    return drawn


def drifting_log(out: Path, seed: int, *, rows: int = 9_000, days: int = 3) -> Path:
    write_click_log(
        out, rows=rows, eval_rows=2_000, seed=seed, files=2, row_group_rows=1_000, days=days
    )
    return out


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("column", DRIFTING)
@pytest.mark.parametrize("days", [1, 5, 45])
def test_a_twentieth_of_the_active_ids_is_new_each_day(seed: int, column: str, days: int) -> None:
    seen: set[int] = set()
    before: set[int] = set()
    for day in range(days + 1):
        ids = ids_by_rank(seed, day=day, days=days)[column]
        today = set(ids.tolist())
        assert len(today) == len(ids), "an id has one rank"
        assert min(today) >= 0
        assert max(today) < CARDINALITY[column]
        if day:
            assert len(today - before) == len(ids) // 20
            assert not (today - before) & seen, "who is new was never there"
        before, seen = today, seen | today


def test_popularity_turns_by_a_hundredth_each_day(seed: int) -> None:
    for column in DRIFTING:
        first, second = (ids_by_rank(seed, day=day, days=5)[column] for day in (0, 1))
        rank = {int(who): place for place, who in enumerate(second)}
        stayed = [(place, rank[int(who)]) for place, who in enumerate(first) if int(who) in rank]
        turned = {(after - before) % len(first) for before, after in stayed}
        assert turned == {len(first) // 100}


def test_days_have_their_folders_and_share_the_rows(tmp_path: Path, seed: int) -> None:
    out = drifting_log(tmp_path, seed, rows=9_001)
    rows = {
        day.name: sum(pq.read_metadata(part).num_rows for part in day.iterdir())
        for day in (out / "train").iterdir()
    }
    assert rows == {"day-01": 3_001, "day-02": 3_000, "day-03": 3_000}
    assert sum(pq.read_metadata(part).num_rows for part in (out / "eval").iterdir()) == 2_000
    assert json.loads((out / "truth.json").read_text())["days"] == 3


def test_users_of_the_log_are_those_active_on_the_day(tmp_path: Path, seed: int) -> None:
    out = drifting_log(tmp_path, seed)
    parts = [(out / "train" / f"day-{day + 1:02d}", day) for day in range(3)] + [(out / "eval", 3)]
    for folder, day in parts:
        table = pq.read_table(folder, columns=list(DRIFTING))
        for column in DRIFTING:
            active = ids_by_rank(seed, day=day, days=3)[column]
            assert set(table[column].to_pylist()) <= set(active.tolist())


def test_an_item_keeps_what_it_is_like_on_all_days(tmp_path: Path, seed: int) -> None:
    out = drifting_log(tmp_path, seed)
    table = pa.concat_tables([pq.read_table(out / part) for part in ("train", "eval")])
    pairs = table.select(["item_id", "price"]).to_pandas()
    assert pairs.groupby("item_id")["price"].nunique().max() == 1


def test_days_are_drawn_independently_and_alike_for_equal_arguments(
    tmp_path: Path, seed: int
) -> None:
    first, second = (drifting_log(tmp_path / name, seed) for name in ("first", "second"))
    assert files_below(first) == files_below(second)
    days = [pq.read_table(first / "train" / f"day-{day:02d}")["session_seconds"] for day in (1, 2)]
    assert not np.array_equal(*(day.to_numpy() for day in days))


def test_one_log_replaces_the_other_kind(tmp_path: Path, seed: int) -> None:
    shape = {"rows": 900, "eval_rows": 200, "seed": seed, "files": 1, "row_group_rows": 500}
    write_click_log(tmp_path / "log", **shape, days=2)
    write_click_log(tmp_path / "log", **shape)
    assert sorted(files_below(tmp_path / "log")) == [
        "eval/part-00000.parquet",
        "train/part-00000.parquet",
        "truth.json",
    ]
    assert [path.name for path in (tmp_path / "log" / "train").iterdir()] == ["part-00000.parquet"]
    write_click_log(tmp_path / "log", **shape, days=2)
    assert sorted(path.name for path in (tmp_path / "log" / "train").iterdir()) == [
        "day-01",
        "day-02",
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--days", "3"], "--days cuts a log that drifts into days; give --drift, too, or neither"),
        (["--drift"], "--rows 19 cannot fill 20 files; raise --rows or lower --files"),
        (["--drift", "--days", "0"], "needs a whole number of at least 1, got '0'"),
    ],
)
def test_arguments_that_cannot_be_met_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    given = ["--out", str(tmp_path / "log"), "--rows", "19", "--seed", "1", "--eval-rows", "9"]
    with pytest.raises(SystemExit) as stopped:
        main([*given, *arguments])
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "log").exists()
