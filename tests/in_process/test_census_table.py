"""An experiment from the archive's files to its report, and begun again."""

import json
import secrets
from pathlib import Path

import pytest

from pipelines.experiments import census_table1
from tests.unit.pipelines.census_lines import write_archive


def test_table_1_from_the_archives_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    csv_train, csv_test = write_archive(tmp_path, seed, rows=600)
    out = tmp_path / "table"
    command = ["--csv-train", str(csv_train), "--csv-test", str(csv_test), "--out", str(out)]
    command += ["--arms", "uniform", "gradops_-3", "--seeds", "1", "--epochs", "2"]
    command += ["--parallel", "2", "--set", "training.global_batch_size=96"]
    command += ["--set", "optimizer.dense.learning_rate=0.003"]
    assert census_table1.main(command) == 0
    shown = capsys.readouterr().out
    assert (out / "census_table1.md").read_text().strip() in shown
    assert (out / "census_table1.png").stat().st_size > 10_000
    uniform, gradops = json.loads((out / "census_table1.json").read_text())["arms"]
    assert (uniform["arm"], gradops["arm"]) == ("uniform", "gradops_-3")
    assert gradops["paper"]["scores"] == [0.9459, 0.9854, 0.8876]
    # A model that has not read its rows, or the label of another task, knows nothing of income.
    assert gradops["means"]["income"] > 0.7
    assert gradops["differences"]["average"]["mean"] == pytest.approx(
        gradops["means"]["average"] - uniform["means"]["average"]
    )

    [run] = [f for f in (out / "sweep" / "runs").iterdir() if f.name.startswith("uniform")]
    trained = (run / "result.json").stat().st_mtime_ns
    assert census_table1.main(command) == 0
    assert (run / "result.json").stat().st_mtime_ns == trained
