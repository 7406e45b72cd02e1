"""`recsys-mtl init`: what it takes columns for, and that its YAML trains unedited."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.synthetic_clicks import write_click_log
from pipelines.synthetic_world import DENSE_COLUMNS, ID_COLUMNS, TASKS
from recsys_mtl import cli
from recsys_mtl.config import RunConfig
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.launch import launch

CENSUS = Path(__file__).parents[4] / "shared" / "data" / "census_income"


def written(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What `init` prints."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", *map(str, arguments)])
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (0, "")
    (folder / "made.yaml").write_text(said.out)
    return said.out


def config_of(folder: Path) -> RunConfig:
    return load_config(
        folder / "made.yaml",
        (
            f"run.storage_path={folder}/runs",
            "cluster.num_workers=0",
            "training.max_steps=3",
            "metrics.linger_seconds=0",
        ),
    )


def log(folder: Path, **changed: Any) -> Path:
    """A log of 2,000 rows in two files, with these columns beside, or instead of, its own."""
    rng = np.random.default_rng(1)
    rows = 2_000
    buy = (rng.random(rows) < 0.1).astype(np.int8)
    columns = {
        "user_id": rng.integers(0, 300, rows),
        "price": np.exp(rng.normal(3, 2, rows)),
        "bought": buy,
    } | changed
    table = pa.table({name: value for name, value in columns.items() if value is not None})
    folder.mkdir()
    for number in range(2):
        pq.write_table(table.slice(number * 1_000, 1_000), folder / f"{number}.parquet")
    return folder


def test_the_demo_s_log_is_understood_and_trains_unedited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_click_log(
        tmp_path / "log", rows=6_000, eval_rows=500, seed=3, files=2, row_group_rows=1_000
    )
    written(tmp_path, capsys, "--data", tmp_path / "log")
    config = config_of(tmp_path)
    assert config.task_names == TASKS
    ids = {name for name, _ in config.data.id_features()}
    assert ids == {column.name for column in ID_COLUMNS} | {"recent_categories"}
    assert {n for n, _ in config.data.dense_features()} == {column.name for column in DENSE_COLUMNS}
    assert dict(config.data.id_features())["recent_categories"].table == "category_id"
    assert launch(config)["steps"] == 3


@pytest.mark.skipif(
    not CENSUS.exists() and not os.environ.get("CI"), reason=f"the census data are not at {CENSUS}"
)
def test_census_s_labels_are_found_and_what_gives_them_away_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = written(tmp_path, capsys, "--data", CENSUS)
    config = config_of(tmp_path)
    assert config.task_names == ("label_income", "label_marital", "label_education")
    assert not {"income_bracket", "marital_stat", "education"} & set(config.data.features)
    assert "left out: marital_stat   gives the label label_marital away" in text
    assert "if it is a weight of rows" in text
    assert launch(config)["steps"] == 3


def test_what_no_feature_can_be_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = 2_000
    buy = (np.random.default_rng(2).random(rows) < 0.1).astype(np.int8)
    data = log(
        tmp_path / "log",
        bought=buy,
        row=np.arange(rows) * 7919,
        country=["nl"] * rows,
        seen_at=pa.array(np.arange(rows), pa.timestamp("s")),
        at=1_700_000_000 + np.arange(rows),
        answer=np.where(buy == 1, "yes", "no"),
        shape=[{"a": 1}] * rows,
    )
    text = written(tmp_path, capsys, "--data", data)
    for name, why in (
        ("row", "another value in every row"),
        ("country", "one value in all rows"),
        ("seen_at", "type timestamp"),
        ("at", "a point in time"),
        ("answer", "gives the label bought away"),
        ("shape", "type struct"),
    ):
        assert f"# left out: {name}   {why}" in text
    config = config_of(tmp_path)
    assert set(config.data.features) == {"user_id", "price"}
    assert config.data.eval == f"{data}/1.parquet"
    assert config.data.features["price"].transform == "log1p"  # type: ignore[union-attr]


def test_a_count_that_only_has_zero_and_one_is_no_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rare = (np.random.default_rng(3).random((2, 2_000)) < 0.05).astype(np.int64)
    data = log(tmp_path / "log", bought=None, wish=rare[0], item_wishes=rare[1])
    written(tmp_path, capsys, "--data", data)
    config = config_of(tmp_path)
    assert {t: label.column for t, label in config.data.labels.items()} == {"wish": "wish"}
    assert config.data.features["item_wishes"].kind == "dense"


def test_names_that_yaml_or_the_configuration_cannot_hold_are_spelt_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = np.random.default_rng(4).choice(["a", "b", "c"], 2_000)
    data = log(tmp_path / "log", **{"a b": words, "a-b": words, "on": words, "2nd": words})
    written(tmp_path, capsys, "--data", data)
    columns = {f.column or n for n, f in config_of(tmp_path).data.features.items()}
    assert columns == {"user_id", "price", "a b", "a-b", "on", "2nd"}


def test_columns_of_few_values_are_written_one_hot_where_one_asks_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(5)
    words = ["yes", "1e-3", "", "Łódź", "😀", "a'b\"c, ]", "\x85", None]
    data = log(
        tmp_path / "log",
        answer=rng.choice(np.array(words, dtype=object), 2_000),
        level=pa.array(rng.choice([7, -1, 3, None], 2_000)),
        colour=pa.array(rng.choice(["red", "blue"], 2_000)).dictionary_encode(),
        tags=[["a"], ["b", "a"]] * 1_000,
        city=rng.choice([f"city{n}" for n in range(9)], 2_000),
    )
    text = written(tmp_path, capsys, "--data", data, "--one-hot", 7)
    config = config_of(tmp_path)
    found = {name: f.vocabulary for name, f in config.data.one_hot_features()}
    assert found == {
        "answer": tuple(sorted(word for word in words if word is not None)),
        "level": (-1, 3, 7),
        "colour": ("blue", "red"),
    }
    assert {name for name, _ in config.data.id_features()} == {"user_id", "tags", "city"}
    assert "# 7 strings; 1" in text
    assert launch(config)["steps"] == 3
    assert "one_hot" not in written(tmp_path, capsys, "--data", data)


@pytest.mark.parametrize("number", ["many", "-1", "5000", "1.5"])
def test_a_number_of_values_that_no_vocabulary_has_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", "--data", str(tmp_path), "--one-hot", number])
    assert ended.value.code == 2
    assert f"--one-hot: {number!r} is no number of values from 0 to 4096" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "arguments", "sentence"),
    [
        ({"bought": None}, [], "has no label: no column holds 0 and 1 alone"),
        ({}, ["--eval", "DATA"], "--eval is --data itself"),
        ({}, ["--eval", "DATA/nothing"], "no Parquet file there"),
        ({"user_id": None, "price": None}, [], "has no column that could be a feature"),
    ],
)
def test_a_log_that_cannot_be_trained_on_is_refused_with_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, Any],
    arguments: list[str],
    sentence: str,
) -> None:
    data = log(tmp_path / "log", **changed)
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", "--data", str(data), *(a.replace("DATA", str(data)) for a in arguments)])
    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert sentence in said.err


def test_a_log_without_a_part_to_judge_by_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = log(tmp_path / "log")
    (data / "1.parquet").unlink()
    with pytest.raises(SystemExit):
        cli.main(["init", "--data", str(data)])
    assert "give one with --eval" in capsys.readouterr().err
