"""Runs that are killed, continued on other workers, finished, and changed."""

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

from .conftest import Place, command_line, recsys_mtl, scrape, wait_until

TASKS = ("purchase", "cart", "wish")
STEPS = 480  # 15 epochs of 32 steps
RESULT_KEYS = {
    "run", "finished", "world_size", "epochs", "steps", "rows", "rows_per_second", "wall_seconds",
    "method", "tasks", "conflicting_steps", "min_norm_steps", "skipped_steps", "parameters",
}  # fmt: skip


def trace_of(place: Place, run: str) -> pd.DataFrame:
    return read_trace(str(place.folder / "runs" / run / "trace")).to_pandas()


def result_of(place: Place, run: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((place.folder / "runs" / run / "result.json").read_text())
    return result


def worker_processes() -> list[int]:
    """Process ids of the Ray Train workers on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::RayTrainWorker"):
            found.append(int(folder.name))
    return found


@pytest.fixture
def undisturbed(place: Place, cluster: dict[str, str]) -> pd.DataFrame:
    """The trace of a run that nothing happened to."""
    done = recsys_mtl(
        cluster, "train", place.yaml, "--set", "run.name=undisturbed",
        "--set", f"training.max_steps={STEPS}", "--set", "training.epochs=100",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return trace_of(place, "undisturbed")


def assert_same_training(trace: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Every step once, and each as if nothing had happened."""
    assert trace.step.tolist() == expected.step.tolist()
    assert trace.rows.tolist() == expected.rows.tolist()
    for task in TASKS:
        for column in (f"loss_{task}", f"weight_{task}"):
            np.testing.assert_allclose(trace[column], expected[column], rtol=1e-5, atol=1e-6)


def test_a_killed_worker_is_replaced_and_every_row_still_trains_once(
    place: Place, cluster: dict[str, str], undisturbed: pd.DataFrame
) -> None:
    command = command_line(
        "train", place.yaml, "--set", f"training.max_steps={STEPS}", "--set", "run.name=killed",
        "--set", "training.epochs=100", "--set", "training.checkpoint_interval_steps=60",
    )  # fmt: skip
    process = subprocess.Popen(
        command, env=cluster, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = ""
    while not url:
        found = re.search(r"metrics: (http://\S+)", process.stdout.readline())
        url = found.group(1) if found else ""
    steps_total = 'recsys_mtl_steps_total{run="killed"}'
    # Ray Train's own record of committed checkpoints; the run is past step 60 by then.
    committed = place.folder / "runs" / "killed" / "checkpoint_manager_snapshot.json"
    wait_until(committed.exists, timeout_seconds=120, what="a committed checkpoint")
    page = scrape(url)
    for task in TASKS:
        auc = page[f'recsys_mtl_task_auc{{run="killed",split="train_window",task="{task}"}}']
        assert 0 <= auc <= 1
        assert page[f'recsys_mtl_task_weight{{run="killed",task="{task}"}}'] > 0
    os.kill(worker_processes()[0], signal.SIGKILL)

    seen = [page[steps_total]]
    while process.poll() is None:
        try:
            seen.append(scrape(url)[steps_total])
        except OSError:
            break  # the run has ended, and its endpoint with it
        time.sleep(0.2)
    printed, errors = process.communicate(timeout=180)
    assert process.returncode == 0, printed + errors
    assert seen == sorted(seen), "a counter went back"
    trace = trace_of(place, "killed")
    assert set(trace.attempt) == {1, 2}, "the kill came too late to interrupt anything"
    assert_same_training(trace, undisturbed)
    result = result_of(place, "killed")
    assert result.keys() >= RESULT_KEYS
    assert result["finished"] is True
    assert (result["steps"], result["rows"]) == (STEPS, int(undisturbed.rows.sum()))
    assert result["conflicting_steps"] == int(undisturbed.conflict.sum()) > 0
    for task in TASKS:
        assert 0 <= result["tasks"][task]["auc"] <= 1
        mean_weight = undisturbed[f"weight_{task}"].mean()
        assert result["tasks"][task]["mean_weight"] == pytest.approx(mean_weight, rel=1e-4)


def test_a_run_goes_on_with_other_workers_says_when_finished_and_refuses_changes(
    place: Place, cluster: dict[str, str], undisturbed: pd.DataFrame
) -> None:
    def train(*overrides: str) -> subprocess.CompletedProcess[str]:
        sets = [part for o in overrides for part in ("--set", o)]
        return recsys_mtl(cluster, "train", place.yaml, "--set", "training.epochs=100", *sets)

    # The second start is in the middle of an epoch.
    first = train("training.max_steps=300")
    assert first.returncode == 0, first.stderr
    assert "in 300 steps" in first.stdout
    second = train(f"training.max_steps={STEPS}", "cluster.num_workers=4")
    assert second.returncode == 0, second.stderr
    assert_same_training(trace_of(place, "run"), undisturbed)
    assert result_of(place, "run")["world_size"] == 4
    assert result_of(place, "run")["rows"] == int(undisturbed.rows.sum())
    final = result_of(place, "undisturbed")["tasks"]
    for task in TASKS:
        auc = result_of(place, "run")["tasks"][task]["auc"]
        assert auc == pytest.approx(final[task]["auc"], abs=1e-5)

    again = train(f"training.max_steps={STEPS}")
    assert again.returncode == 0
    assert "is finished" in again.stdout
    changed = train("training.max_steps=500", "method.alpha=2")
    assert changed.returncode == 2
    assert "method.alpha: 0.5 -> 2.0" in changed.stderr
    assert "--fresh" in changed.stderr
    fewer = train("training.max_steps=50")
    assert fewer.returncode == 2
    assert f"has trained {STEPS} steps" in fewer.stderr
    for refused in (changed, fewer):
        assert "Traceback" not in refused.stdout + refused.stderr
