"""Census-Income: the archive's files become Parquet and a run, and bad ones a sentence."""

import os
import random
import secrets
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines import census
from pipelines.census_archive import ANSWERS, COLUMNS, LABELS, NUMBERS, read_archive
from recsys_mtl.config import UserError
from tests.unit.pipelines.census_lines import draw_line, write_archive, write_lines

READY = Path(__file__).parents[4] / "shared/data/census_income"


@pytest.fixture
def seed() -> int:
    drawn = secrets.randbelow(2**31)
    print(f"seed {drawn}")
    return drawn


def test_fields_are_read_without_their_spaces_and_numbers_as_numbers(
    tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    rows = [draw_line(draw) for _ in range(20)]
    for name in ("plain.data", "packed.data.gz"):
        table = read_archive(write_lines(tmp_path / name, rows))
        assert table.column_names == [*COLUMNS, *LABELS.values()]
        for column in COLUMNS:
            if column in NUMBERS:
                assert table[column].type == pa.float32()
                wanted = np.float32([float(row[column]) for row in rows])
                assert table[column].to_numpy() == pytest.approx(wanted)
            else:
                assert table[column].to_pylist() == [row[column] for row in rows]


def test_labels_follow_from_their_fields(tmp_path: Path, seed: int) -> None:
    row = draw_line(random.Random(seed))
    for answer in ANSWERS:
        for value in answer.positive | answer.negative:
            path = write_lines(tmp_path / "one.data", [row | {answer.column: value}])
            label = read_archive(path)[LABELS[answer.task]]
            assert label.type == pa.int8()
            assert label.to_pylist() == [int(value in answer.positive)]


@pytest.mark.skipif(
    not READY.is_dir() and not os.environ.get("CI"), reason=f"{READY} is not on this machine"
)
def test_labels_are_those_of_the_ready_files() -> None:
    table = pq.read_table(READY / "test.parquet")
    for answer in ANSWERS:
        values = np.asarray(table[answer.column])
        assert set(values) <= answer.positive | answer.negative
        wanted = np.isin(values, sorted(answer.positive))
        assert (table[LABELS[answer.task]].to_numpy() == wanted).all()
    assert table.column_names == [*COLUMNS, *LABELS.values()]


def test_the_test_file_is_halved_and_no_row_is_lost(tmp_path: Path, seed: int) -> None:
    csv_train, csv_test = write_archive(tmp_path, seed)
    census.split_archive(csv_train, csv_test, tmp_path / "a", seed=1)
    tables = {split: pq.read_table(tmp_path / "a" / f"{split}.parquet") for split in census.SPLITS}
    assert [table.num_rows for table in tables.values()] == [300, 75, 75]
    judged = pa.concat_tables([tables["valid"], tables["test"]])
    order = [(name, "ascending") for name in ("instance_weight", "age")]
    assert judged.sort_by(order).equals(read_archive(csv_test).sort_by(order))

    for folder, other in (("again", 1), ("another", 2)):
        census.split_archive(csv_train, csv_test, tmp_path / folder, seed=other)
        is_same = pq.read_table(tmp_path / folder / "test.parquet").equals(tables["test"])
        assert is_same == (other == 1)


def test_the_run_has_the_papers_setting_and_the_training_rows_values(
    tmp_path: Path, seed: int
) -> None:
    csv_train, csv_test = write_archive(tmp_path, seed)
    out = tmp_path / "out"
    command = ["--csv-train", str(csv_train), "--csv-test", str(csv_test), "--out", str(out)]
    assert census.main(command) == 0
    tree = yaml.safe_load((out / "run.yaml").read_text())
    features, rows = tree["data"]["features"], pq.read_table(out / "train.parquet")
    assert len(features) == 38
    assert not {answer.column for answer in ANSWERS} & set(features)
    assert "instance_weight" not in features
    for name, feature in features.items():
        if feature["kind"] == "one_hot":
            assert feature["vocabulary"] == sorted(set(rows[name].to_pylist()))
            continue
        values = rows[name].to_numpy().astype(np.float64)
        values = np.log1p(values) if feature.get("transform") == "log1p" else values
        standardised = (values - feature["mean"]) / feature["std"]
        assert standardised.mean() == pytest.approx(0, abs=1e-4)
        assert standardised.std() == pytest.approx(1, abs=1e-4)
    assert tree["model"] == {"bottom_hidden_sizes": [192, 192], "dropout": 0.3}
    assert tree["optimizer"] == {"dense": {"kind": "adam", "learning_rate": 1e-4}}
    training = tree["training"]
    assert (training["global_batch_size"], training["epochs"]) == (1024, 200)
    assert (training["evaluation_interval_steps"], training["best_by"]) == (1, "mean_auc")


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("age", "old", "line 2: age is no number"),
        ("income_bracket", "rich", "line 2: income_bracket is 'rich', from which the label of"),
        ("education", "Kindergarten", "line 2: education is 'Kindergarten'"),
        ("race", "a, b", "is not Census-Income's text of 42 fields per line"),
    ],
)
def test_a_line_of_something_else_is_named(
    field: str, value: str, sentence: str, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    path = tmp_path / "census.data"
    write_lines(path, [draw_line(draw), draw_line(draw) | {field: value}])
    with pytest.raises(UserError, match=rf"{path}.*{sentence}"):
        read_archive(path)


def test_bad_arguments_are_one_sentence_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    csv_train, _ = write_archive(tmp_path, seed)
    out = str(tmp_path / "out")
    for given, sentence in (
        ([], "say where the rows are: either --data FOLDER, or both --csv-train"),
        (["--csv-train", str(csv_train)], "say where the rows are"),
        (["--data", "x", "--csv-train", "y", "--csv-test", "z"], "say where the rows are"),
        (["--data", str(tmp_path)], f"{tmp_path}/train.parquet is no file"),
        (["--csv-train", "none", "--csv-test", "none"], "none is no file; give census-income.data"),
    ):
        assert census.main([*given, "--out", out]) == 2
        assert capsys.readouterr().err.startswith(sentence)
