"""What a person reads while a run goes on."""

import threading
import time
from collections.abc import Iterator

import pytest

from recsys_mtl.driver.events import choose_format
from recsys_mtl.driver.progress import progress_line, showing_progress
from recsys_mtl.exporter.snapshot import Attempt, RunView, Status
from tests.unit.exporter.snapshots import INFO, snapshot


@pytest.fixture(autouse=True)
def _sentences() -> Iterator[None]:
    choose_format("text")
    yield
    choose_format("auto")


def test_the_line_says_how_far_how_fast_and_how_each_task_does() -> None:
    sent = snapshot(
        step=25, auc_window_cart=0.654321, loss_cart=0.25, weight_cart=1.234, weight_purchase=0.8
    )
    assert progress_line(sent, ("cart", "purchase")) == (
        "epoch 0.50/2  step 25/100  1,234 rows/s  "
        "cart loss 0.2500 auc 0.6543 w 1.23  purchase loss 0.1000 auc - w 0.80"
    )


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
        view = RunView(INFO, attempts=attempts, snapshot=snapshot())
        return Status(port=1, view=view, scrapes=0)

    with showing_progress(status, INFO.task_names):
        deadline = time.monotonic() + 10
        while len(asked) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
    printed = capsys.readouterr().out
    assert printed.count("step 20/100") == printed.count("worker 0: a shards") == 1
    assert "progress" not in {thread.name for thread in threading.enumerate()}
