"""What `check` says of labels that weigh and mask rows, and what `check` and `train` refuse."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl import cli
from tests.unit.data.click_logs import clicks

DAY = 86_400
START = 1_780_272_000
"""2026-06-01, 00:00 UTC, in Unix seconds."""
RUN = """
run: {{name: demo, storage_path: {folder}/runs}}
data:
  train: {folder}/train.parquet
  eval: {folder}/eval.parquet
  features: {{row: {{kind: id, rows: 10, embedding_dim: 4}}}}
  labels:
    click: click
    purchase: {{column: buy, sample_weight: w, loss_weight: 2.5, event_time: t, window: 3d}}
    paid_click: {{column: buy, only_where: click}}
method: {{kind: gradops}}
training: {{global_batch_size: 64}}
cluster: {{num_workers: 0}}
"""


def write_log(file: Path, times: Any) -> None:
    table = clicks(0, 2).append_column("click", pa.array([1, 0]))
    table = table.append_column("w", pa.array([1.0, 2.0])).append_column("t", pa.array(times))
    pq.write_table(table, file)


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    """Ten days to train on, and one to evaluate."""
    write_log(tmp_path / "train.parquet", [START, START + 10 * DAY])
    write_log(tmp_path / "eval.parquet", [START, START + DAY])
    file = tmp_path / "run.yaml"
    file.write_text(RUN.format(folder=tmp_path))
    return file


def ended_with(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, arguments)])
    return ended.value.code


def test_check_says_which_rows_count_for_each_task_and_how_much(
    run_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended_with("check", run_yaml) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    counting = "by t, 3d before the last event"
    weighing = "weighed by w; its loss times 2.5"
    assert said == [
        f"    purchase: negatives up to 2026-06-08 00:00:00 UTC {counting}; {weighing}",
        "    paid_click: rows where click is 1",
        f"    purchase: negatives up to 2026-05-30 00:00:00 UTC {counting}; no negative is that "
        f"old, so that this log tells no AUC; {weighing}",
        "    paid_click: rows where click is 1",
    ]


@pytest.mark.parametrize("command", ["check", "train"])
@pytest.mark.parametrize(
    ("times", "told"),
    [
        (
            ["2026-06-01", "2026-06-11"],
            "event_time) in {file} has type string; it must hold timest",
        ),
        ([START * 1_000, START * 1_000], "has the value 1780272000000 in {file}, row group 0; an"),
        (
            [None, None],
            "column 't' (data.labels.purchase.event_time) holds no time at all in {file};",
        ),
        ([1, 11], "window is 3d, but 't' spans only 0.00278 hours in {file}, so no negative would"),
    ],
)
def test_an_event_time_that_is_no_time_is_refused_in_one_sentence_before_anything_starts(
    run_yaml: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    times: list[Any],
    told: str,
) -> None:
    file = run_yaml.with_name("train.parquet")
    write_log(file, times)
    text = ["--log-format", "text"] if command == "train" else []
    assert ended_with(command, run_yaml, *text) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert told.format(file=file) in message
    assert not (run_yaml.parent / "runs").exists()
