"""Runs that are killed, continued on other workers, finished, and changed.

All of them train the same log, in which one row group of 250 rows cannot be read and is skipped:
the counts of rejected rows must come out exact, too.
"""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_mtl.metrics.trace import read_trace

from .conftest import (
    ROWS,
    Place,
    command_line,
    damage,
    make_place,
    recsys_mtl,
    scrape,
    wait_until,
)

TASKS = ("purchase", "cart", "wish")
STEPS_PER_EPOCH = 32  # of 64 rows: each of the 4 lanes of 500 rows takes 16 a step
EPOCHS = 10
STEPS = EPOCHS * STEPS_PER_EPOCH
RESULT_KEYS = {
    "run", "finished", "world_size", "epochs", "steps", "rows", "rows_per_second", "wall_seconds",
    "method", "tasks", "conflicting_steps", "min_norm_steps", "skipped_steps", "parameters",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One log for all runs of this file."""
    place = make_place(tmp_path_factory.mktemp("recovery"))
    damage(place)
    return place


def arguments(place: Place, run: str, *overrides: str) -> list[object]:
    sets = (f"run.name={run}", "data.on_error=skip", "training.epochs=100", *overrides)
    return ["train", place.yaml, *(part for o in sets for part in ("--set", o))]


def trace_of(place: Place, run: str) -> pd.DataFrame:
    return read_trace(str(place.folder / "runs" / run / "trace")).to_pandas()


def result_of(place: Place, run: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((place.folder / "runs" / run / "result.json").read_text())
    return result


def worker_processes(environment: dict[str, str]) -> list[int]:
    """Process ids of the Ray Train workers of this cluster, known by its token, and no others."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            variables = (folder / "environ").read_bytes()
        except OSError:
            continue
        ours = environment["RAY_AUTH_TOKEN"].encode() in variables
        if title.startswith(b"ray::RayTrainWorker") and ours:
            found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def undisturbed(shared_place: Place, cluster: dict[str, str]) -> pd.DataFrame:
    """The trace of a run that nothing happened to."""
    overrides = f"training.max_steps={STEPS}"
    done = recsys_mtl(cluster, *arguments(shared_place, "undisturbed", overrides))
    assert done.returncode == 0, done.stderr
    return trace_of(shared_place, "undisturbed")


def assert_same_training(place: Place, run: str, expected: pd.DataFrame) -> None:
    """Every step once, each as if nothing had happened, and totals to match."""
    trace, result, plain = (
        trace_of(place, run),
        result_of(place, run),
        result_of(place, "undisturbed"),
    )
    assert trace.step.tolist() == list(range(1, STEPS + 1))
    for column in ("rows", "rejected_rows", "conflict", "epoch"):
        assert trace[column].tolist() == expected[column].tolist()
    for task in TASKS:
        for column in (f"loss_{task}", f"weight_{task}", f"share_kept_{task}"):
            np.testing.assert_allclose(trace[column], expected[column], rtol=1e-4, atol=1e-5)
        for name in ("auc", "log_loss", "mean_weight"):
            assert result["tasks"][task][name] == pytest.approx(
                plain["tasks"][task][name], abs=1e-4
            )
    assert result.keys() >= RESULT_KEYS
    assert result["finished"] is True
    for name in ("steps", "rows", "rejected_rows", "conflicting_steps", "nulls", "epochs"):
        assert result[name] == plain[name], name


def test_an_undisturbed_run_counts_every_row_of_every_epoch(
    shared_place: Place, undisturbed: pd.DataFrame
) -> None:
    result = result_of(shared_place, "undisturbed")
    assert (result["steps"], result["rows"]) == (STEPS, EPOCHS * ROWS)
    assert result["rejected_rows"] == EPOCHS * 250
    assert result["conflicting_steps"] == int(undisturbed.conflict.sum()) > 0


def test_a_killed_worker_is_replaced_and_every_row_still_trains_once(
    shared_place: Place, cluster: dict[str, str], undisturbed: pd.DataFrame
) -> None:
    overrides = (f"training.max_steps={STEPS}", "training.checkpoint_interval_steps=60")
    process = subprocess.Popen(
        command_line(*arguments(shared_place, "killed", *overrides)),
        env=cluster,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = None
    while url is None:
        line = process.stdout.readline()
        assert line, f"the run ended early: {process.communicate()[1]}"
        url = re.search(r"metrics: (http://\S+)", line)
    # Ray Train's own record of committed checkpoints; the run is past step 60 by then.
    committed = shared_place.folder / "runs" / "killed" / "checkpoint_manager_snapshot.json"
    wait_until(committed.exists, timeout_seconds=120, what="a committed checkpoint")
    page = scrape(url[1])
    for task in TASKS:
        auc = page[f'recsys_mtl_task_auc{{run="killed",split="train_window",task="{task}"}}']
        assert 0 <= auc <= 1
        assert page[f'recsys_mtl_task_weight{{run="killed",task="{task}"}}'] > 0
    os.kill(worker_processes(cluster)[0], signal.SIGKILL)

    seen = [page]
    while process.poll() is None:
        try:
            seen.append(scrape(url[1]))
        except OSError:
            break  # the run has ended, and its endpoint with it
        time.sleep(0.2)
    printed, errors = process.communicate(timeout=180)
    assert process.returncode == 0, printed + errors
    for series in (s for s in page if "_total{" in s):
        values = [scraped[series] for scraped in seen]
        assert values == sorted(values), f"{series} went back"
    assert set(trace_of(shared_place, "killed").attempt) == {1, 2}
    assert_same_training(shared_place, "killed", undisturbed)


def test_a_run_goes_on_with_other_workers_says_when_finished_and_refuses_changes(
    shared_place: Place, cluster: dict[str, str], undisturbed: pd.DataFrame
) -> None:
    first = recsys_mtl(cluster, *arguments(shared_place, "moved", "training.max_steps=205"))
    assert first.returncode == 0, first.stderr
    assert "in 205 steps" in first.stdout
    overrides = (f"training.max_steps={STEPS}", "cluster.num_workers=4")
    second = recsys_mtl(cluster, *arguments(shared_place, "moved", *overrides))
    assert second.returncode == 0, second.stderr
    assert result_of(shared_place, "moved")["world_size"] == 4
    assert_same_training(shared_place, "moved", undisturbed)

    again = recsys_mtl(cluster, *arguments(shared_place, "moved", f"training.max_steps={STEPS}"))
    assert again.returncode == 0
    assert "is finished" in again.stdout
    for overrides, words in (
        (("training.max_steps=400", "method.alpha=2"), ("method.alpha: 0.5 -> 2", "--fresh")),
        (("training.max_steps=50",), (f"has trained {STEPS} steps", "--fresh")),
    ):
        refused = recsys_mtl(cluster, *arguments(shared_place, "moved", *overrides))
        assert refused.returncode == 2
        assert all(word in refused.stderr for word in words), refused.stderr
        assert "Traceback" not in refused.stdout + refused.stderr
