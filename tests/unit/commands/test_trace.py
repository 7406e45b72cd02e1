"""`recsys-mtl trace`, on the folder of a run that was killed."""

import csv
import io
from pathlib import Path

import pytest

from recsys_mtl import cli
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.run_folder import RunFolder
from recsys_mtl.gradients.methods import gradops
from recsys_mtl.metrics.columns import Column, trace_columns
from recsys_mtl.metrics.trace import TraceWriter
from tests.unit.run_files import write_run

GAIN = Column("gain", "number", "", of_method=True)


def write_trace(run: Path, attempt: int, steps: range, columns: list[Column]) -> None:
    writer = TraceWriter(f"{run}/trace", attempt, columns)
    values = {"count": 3, "flag": False, "number": 0.25}
    for step in steps:
        row = {column.name: values[column.kind] for column in columns}
        writer.append([row | {"step": step, "attempt": attempt, "loss_cart": 1 / step}])
    writer.flush()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two attempts that has no result, with a number of someone's own method."""
    config = load_config(write_run(tmp_path), (f"run.storage_path={tmp_path}/runs",))
    with RunFolder(config).begun(config, "abc", "def", lambda: True):
        columns = [*trace_columns(config.task_names, gradops.DIAGNOSTICS), GAIN]
        write_trace(tmp_path / "runs" / "demo", 1, range(1, 31), columns)
        write_trace(tmp_path / "runs" / "demo", 2, range(21, 41), columns)
    return tmp_path / "runs" / "demo"


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(["trace", *map(str, arguments)])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_every_column_is_summed_up_below_what_it_means(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(capsys, run).splitlines()
    assert lines[0] == "run demo: steps 1 to 40, in 2 attempt(s); not finished"
    (place,) = [i for i, line in enumerate(lines) if line.split()[:1] == ["loss_cart"]]
    assert lines[place].split() == ["loss_cart", "1", "0.025", "0.025", "1", "0.025996", "40"]
    assert lines[place - 2].startswith("Mean loss over the global batch")
    assert "gain: as the method reports it." in lines


def test_columns_are_chosen_by_name_or_quantity(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, run, "--columns", "weight", "loss_cart")
    names = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line.strip()]
    assert names == ["first", "loss_cart", "weight_purchase", "weight_cart"]


def test_every_step_is_written_as_csv(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, run, "--csv", "--columns", "loss"))))
    assert list(rows[0]) == ["step", "loss_purchase", "loss_cart"]
    assert [int(row["step"]) for row in rows] == list(range(1, 41))
    assert float(rows[3]["loss_cart"]) == 0.25


def test_the_trace_of_a_run_that_is_not_finished_is_drawn(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(capsys, run, "--picture", tmp_path / "now.png", "--columns", "loss")
    assert (tmp_path / "now.png").read_bytes().startswith(b"\x89PNG")
    assert not (run / "traces.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["RUN/nothing"], "is no run's folder, for it holds no config.yaml; give"),
        (["RUN/config.yaml"], "config.yaml is a run's YAML; give the folder"),
        (["RUN", "--columns", "lss"], "--columns: the trace has no 'lss'; its quantities: step, "),
        (["RUN", "--picture", "RUN"], "cannot be written"),
        (["RUN", "--picture", "nowhere://a"], "--picture nowhere://a cannot be written"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_one_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["trace", *(word.replace("RUN", str(run)) for word in arguments)])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert sentence in said.err


def test_a_run_without_a_step_has_no_trace_yet(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in (run / "trace").iterdir():
        part.unlink()
    with pytest.raises(SystemExit) as ended:
        cli.main(["trace", str(run)])
    assert ended.value.code == 2
    assert "has no trace yet; it is written every" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["run: [", "run: {name: demo}\n", "- a list"])
def test_a_run_of_another_version_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (run / "config.yaml").write_text(content)
    with pytest.raises(SystemExit) as ended:
        cli.main(["trace", str(run)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "config.yaml is of another version of recsys-mtl or damaged" in said
    assert said.count("\n") == 1
