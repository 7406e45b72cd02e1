"""What a person reads while a run goes on and when it has ended."""

import copy
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from recsys_mtl.driver.events import choose_format
from recsys_mtl.driver.progress import progress_line, show_result, showing_progress
from recsys_mtl.exporter.snapshot import Attempt, RunView, Status
from tests.unit.exporter.snapshots import FACTS, TASKS, snapshot

RESULT: dict[str, Any] = {
    "run": "demo",
    "rows": 12345,
    "steps": 1200,
    "rejected_rows": 0,
    "skipped_steps": 0,
    "tasks": {
        "cart": {
            "auc": 0.81234,
            "log_loss": 0.2,
            "mean_weight": 1.05,
            "positives": 1500,
            "rows": 20000,
            "not_finite": 0,
        },
        "wish": {
            "auc": None,
            "log_loss": 0.01,
            "mean_weight": 0.95,
            "positives": 0,
            "rows": 20000,
            "not_finite": 0,
        },
    },
}


@pytest.fixture(autouse=True)
def _sentences() -> Iterator[None]:
    choose_format("text")
    yield
    choose_format("auto")


def shown(capsys: pytest.CaptureFixture[str], result: dict[str, Any]) -> list[str]:
    show_result(result, "/runs/demo")
    return capsys.readouterr().out.splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]


def test_the_line_says_how_far_how_fast_and_how_each_task_does() -> None:
    sent = snapshot(
        step=25, auc_window_cart=0.654321, loss_cart=0.25, weight_cart=1.234, weight_purchase=0.8
    )
    assert progress_line(sent, ("cart", "purchase")) == (
        "epoch 0.50/2  step 25/100  1,234 rows/s  "
        "cart loss 0.2500 auc 0.6543 w 1.23  purchase loss 0.1000 auc - w 0.80"
    )


def test_the_table_has_a_row_a_task_and_a_dash_for_an_unknown_auc(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, RESULT)
    assert "run demo: 12,345 rows in 1,200 steps" in lines[0]
    table = [cells(line) for line in lines if line.startswith(("│", "┃"))]
    assert table == [
        ["task", "AUC", "log-loss", "mean w", "positives", "rows"],
        ["cart", "0.8123", "0.2000", "1.0500", "1,500", "20,000"],
        ["wish", "-", "0.0100", "0.9500", "0", "20,000"],
    ]


def test_an_unknown_auc_is_explained_and_a_known_one_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = [line for line in shown(capsys, RESULT) if "no AUC" in line]
    assert told == [
        "wish: no AUC on data.eval, where 0 of 20000 known labels are positive; it needs both kinds"
    ]


def test_rows_left_out_are_told_when_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert not any("left out" in line for line in shown(capsys, RESULT))
    lines = shown(capsys, copy.deepcopy(RESULT) | {"rejected_rows": 1024})
    assert "1,024 rows were left out as unusable" in lines


def test_the_end_says_where_everything_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, RESULT)
    for name in ("result.json", "traces.png", "trace/", "config.yaml", ""):
        assert any(line.endswith(f" /runs/demo/{name}") for line in lines), name


def test_a_step_s_line_appears_once_while_a_run_is_followed_and_the_thread_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_mtl.driver.progress._SECONDS_BETWEEN_LINES", 0.0)
    asked: list[None] = []

    def status() -> Status | None:
        asked.append(None)
        if len(asked) == 1:
            return None
        attempts = tuple(Attempt(key, (f"worker 0: {key} shards",)) for key in "ab")
        view = RunView(FACTS, attempts=attempts, snapshot=snapshot())
        return Status(port=1, view=view, scrapes=0)

    with showing_progress(status, TASKS):
        deadline = time.monotonic() + 10
        while len(asked) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
    printed = capsys.readouterr().out
    assert printed.count("step 20/100") == printed.count("worker 0: a shards") == 1
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_the_result_is_one_json_object_where_programs_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    choose_format("json")
    told, note = map(json.loads, shown(capsys, RESULT))
    assert "no AUC on data.eval" in note["message"]
    assert (told["event"], told["url"], told["result"]) == ("result", "/runs/demo", RESULT)
