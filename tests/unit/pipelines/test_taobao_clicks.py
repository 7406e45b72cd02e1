"""Making the Taobao click log: what is dropped, written, replaced and refused."""

import json
import random
import secrets
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import taobao_clicks
from recsys_mtl.config.file import load_config
from recsys_mtl.data.schema import column_families
from tests.unit.pipelines.user_behavior import (
    Event,
    at,
    clicks_of,
    make_log,
    random_events,
    write_csv,
)

TAOBAO_YAML = Path(taobao_clicks.__file__).parent / "runs/taobao.yaml"


@pytest.fixture
def seed() -> int:
    drawn = secrets.randbelow(2**31)
    print(f"seed {drawn}")
    return drawn


def test_events_off_the_official_days_and_duplicates_are_dropped_and_counted(
    tmp_path: Path,
) -> None:
    inside = [(1, 100, 10, "pv", at(0, 0)), (1, 101, 10, "pv", at(9, 0) - 1)]
    outside = [(1, 100, 10, "pv", t) for t in (at(0, 0) - 1, at(9, 0), -1, 10**17)]
    duplicates = [inside[0], inside[0]]
    clicks = clicks_of(tmp_path, inside + outside + duplicates)
    assert [row["item_id"] for row in clicks["train"] + clicks["eval"]] == [100, 101]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["csv_rows"], summary["events"]) == (8, 2)
    assert list(summary["dropped"].values()) == [4, 2]


def test_the_summary_counts_the_rows_and_positives_of_the_parts(tmp_path: Path, seed: int) -> None:
    clicks = clicks_of(tmp_path, random_events(seed, 500))
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    for split, rows in clicks.items():
        assert summary[split]["rows"] == len(rows)
        for task in ("purchase", "cart", "wish"):
            assert summary[split]["positives"][task] == sum(row[task] for row in rows)
    assert summary["split_time"] == "2017-12-03T00:00:00+08:00"


def test_equal_input_gives_equal_bytes_and_several_row_groups_in_order_of_time(
    tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    events: list[Event] = [
        (draw.randrange(50), draw.randrange(900), 1, "pv", at(0) + draw.randrange(8 * 86_400))
        for _ in range(9_000)
    ]
    csv = write_csv(tmp_path / "log.csv", events)
    first, second = (make_log(csv, tmp_path / name) for name in ("first", "second"))
    parts = sorted(path.relative_to(first) for path in first.rglob("*.parquet"))
    assert [str(part) for part in parts] == ["eval/part-00000.parquet", "train/part-00000.parquet"]
    for part in parts:
        assert (first / part).read_bytes() == (second / part).read_bytes()
    train = pq.ParquetFile(first / "train/part-00000.parquet")
    assert train.num_row_groups >= 3
    seconds = train.read().column("unix_seconds").to_pylist()
    assert seconds == sorted(seconds)


SMALL: list[Event] = [(1, 100, 10, "pv", at(3)), (2, 101, 10, "pv", at(8))]


def test_a_second_run_replaces_the_parts_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(taobao_clicks, "EVENTS_PER_BUCKET", 60)
    clicks_of(tmp_path, random_events(seed, 500))
    assert len(list((tmp_path / "out/train").iterdir())) > 1
    clicks = clicks_of(tmp_path, SMALL)
    assert [len(clicks["train"]), len(clicks["eval"])] == [1, 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "eval",
        "summary.json",
        "train",
    ]


def test_no_part_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taobao_clicks, "EVENTS_PER_BUCKET", 1)
    users_of_train = [(user, 100, 10, "pv", at(3)) for user in range(20)]
    clicks_of(tmp_path, [*users_of_train, (99, 100, 10, "pv", at(8))])
    parts = list((tmp_path / "out").rglob("*.parquet"))
    assert len(parts) > 2
    assert all(pq.read_metadata(part).num_rows for part in parts)


def test_a_run_that_fails_late_leaves_the_earlier_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks_of(tmp_path, SMALL)
    files = contents(tmp_path)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(taobao_clicks, "count_labels", full_disk)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(SystemExit) as exit_:
        clicks_of(tmp_path, SMALL, "--temp-dir", str(scratch))
    assert exit_.value.code == 2
    assert contents(tmp_path) == files
    assert not any(scratch.iterdir())


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(capsys: pytest.CaptureFixture[str], run: Callable[[], object]) -> str:
    """What a refused run says, after it ended with status 2."""
    with pytest.raises(SystemExit) as exit_:
        run()
    said = capsys.readouterr().err
    assert exit_.value.code == 2
    assert said.count("\n") == 1
    return said


GOOD = f"1,2,3,pv,{at(3)}\n1,2,3,pv,{at(8)}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no event between"),
        ("1,2,3,pv,12\n", "has no event between"),
        (GOOD + "1,2,3,pv\n", "line 3: '1,2,3,pv' is no event"),
        (GOOD + f"1,2,3,pv,{at(3)},6\n", "line 3: "),
        (GOOD + f"1,2,3,view,{at(3)}\n", "line 3: "),
        (GOOD + f"1,2.5,3,pv,{at(3)}\n", "line 3: "),
        (GOOD + f"1,,3,pv,{at(3)}\n", "line 3: "),
        (GOOD + f"1,{10**18},3,pv,{at(3)}\n", "line 3: "),
        (GOOD + f"1\t2,3,pv,{at(3)}\n", "line 3: "),
        (GOOD + "x" * 3_000_000 + "\n", "line 3: "),
        ("user_id,item_id,category_id,behavior,timestamp\n" + GOOD, "line 1: "),
        (f"1,2,3,pv,{at(3)}\n", "has no click for train"),
        (f"1,2,3,pv,{at(3)}\n1,2,3,buy,{at(8)}\n", "has no click for eval"),
    ],
    ids=[
        "empty",
        "other days",
        "four columns",
        "six columns",
        "unknown behavior",
        "no whole number",
        "nothing for a number",
        "too large a number",
        "a tab",
        "an endless line",
        "a header",
        "one day",
        "no click on the last day",
    ],
)
def test_a_bad_csv_is_refused_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    csv = tmp_path / "log.csv"
    csv.write_text(text)
    sentence = refusal(capsys, lambda: make_log(csv, tmp_path / "out"))
    assert str(csv) in sentence
    assert said in sentence
    assert list(tmp_path.iterdir()) == [csv]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--csv", "nowhere.csv"], "nowhere.csv is no file; give"),
        (["--memory-limit", "much"], "--memory-limit much is no size; write"),
        (["--memory-limit", "1MB"], "--memory-limit 1MB or the disk"),
        (["--eval-days", "99999999"], "has no click for train with --eval-days 99999999"),
        (["--temp-dir", "no/such/folder"], "check --csv, --out and --temp-dir"),
    ],
)
def test_an_option_that_cannot_be_met_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    csv = write_csv(tmp_path / "log.csv", SMALL)
    assert said in refusal(capsys, lambda: make_log(csv, tmp_path / "out", *options))
    assert list(tmp_path.iterdir()) == [csv]


def test_a_folder_with_other_files_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = write_csv(tmp_path / "log.csv", SMALL)
    notes = tmp_path / "out/train/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    assert f"{notes} is no part" in refusal(capsys, lambda: make_log(csv, tmp_path / "out"))
    assert notes.read_text() == "mine"


def test_the_run_configuration_fits_the_columns(tmp_path: Path) -> None:
    clicks_of(tmp_path, SMALL)
    schema = pq.read_schema(tmp_path / "out/train/part-00000.parquet")
    data = load_config(TAOBAO_YAML).data
    assert column_families(schema, data, "part-00000.parquet")
    used = {feature.column or name for name, feature in data.features.items()}
    assert set(schema.names) == used | {label.column for label in data.labels.values()} | {
        "unix_seconds"
    }
