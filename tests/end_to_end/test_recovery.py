"""Runs that are killed, continued on other workers, finished, and changed.

All of them train the same log, in which one row group of 250 rows cannot be read and is skipped:
the counts of rejected rows must come out exact, too.
"""

import json
import re
import signal
import time
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest

from recsys_mtl.metrics.trace import read_trace

from .monitored import STEPS, STEPS_PER_EPOCH, KilledRun
from .runs import ROWS, Place, arguments, recsys_mtl, started

TASKS = ("purchase", "cart", "wish")
EPOCHS = STEPS // STEPS_PER_EPOCH
RESULT_KEYS = {
    "run", "finished", "world_size", "epochs", "steps", "rows", "rows_per_second", "wall_seconds",
    "method", "tasks", "conflicting_steps", "min_norm_steps", "skipped_steps", "parameters",
}  # fmt: skip


def trace_of(runs: str, run: str) -> pd.DataFrame:
    return read_trace(f"{runs}/{run}/trace").to_pandas()


def result_of(runs: str, run: str) -> dict[str, Any]:
    with fsspec.open(f"{runs}/{run}/result.json") as file:
        return dict(json.load(file))


@pytest.fixture(scope="module")
def undisturbed(shared_place: Place, cluster: dict[str, str]) -> pd.DataFrame:
    """The trace of a run of one worker that nothing happened to."""
    overrides = (f"training.max_steps={STEPS}", "cluster.num_workers=1")
    done = recsys_mtl(cluster, *arguments(shared_place, "undisturbed", *overrides))
    assert done.returncode == 0, done.stderr
    return trace_of(shared_place.runs, "undisturbed")


def assert_same_training(
    trace: pd.DataFrame, result: dict[str, Any], expected: pd.DataFrame, plain: dict[str, Any]
) -> None:
    """Every step once, each as if nothing had happened, and totals to match."""
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
    result = result_of(shared_place.runs, "undisturbed")
    assert (result["steps"], result["rows"]) == (STEPS, EPOCHS * ROWS)
    assert result["rejected_rows"] == EPOCHS * 250
    assert result["conflicting_steps"] == int(undisturbed.conflict.sum()) > 0


def test_a_killed_worker_is_replaced_and_two_still_train_what_one_trains(
    killed_run: KilledRun, undisturbed: pd.DataFrame
) -> None:
    assert killed_run.status == 0, killed_run.printed
    runs = killed_run.place.runs
    trace, result = trace_of(runs, killed_run.name), result_of(runs, killed_run.name)
    assert set(trace.attempt) == {1, 2}
    assert_same_training(trace, result, undisturbed, result_of(runs, "undisturbed"))


def test_what_ray_says_of_a_killed_worker_stands_between_our_lines_as_one_of_them(
    killed_run: KilledRun,
) -> None:
    told = [json.loads(line) for line in killed_run.printed.splitlines()]
    assert all(event.keys() >= {"time", "level", "event", "message"} for event in told)


def test_a_run_on_s3_ended_by_sigterm_goes_on_with_other_workers_and_says_when_finished(
    shared_place: Place,
    cluster: dict[str, str],
    s3: fsspec.AbstractFileSystem,
    undisturbed: pd.DataFrame,
) -> None:
    for part in ("train", "eval"):
        s3.put(str(shared_place.folder / part), f"clicks/{part}", recursive=True)
    runs = "s3://runs/mtl"
    on_s3 = (
        f"run.storage_path={runs}",
        "data.train=s3://clicks/train",
        "data.eval=s3://clicks/eval",
        f"training.max_steps={STEPS}",
    )
    longer = ("training.log_interval_steps=5", "cluster.grace_seconds=120")
    first = arguments(shared_place, "moved", *on_s3, *longer)
    process, _ = started(cluster, *first, until="progress")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=150)
    assert process.returncode == 143, errors
    told = json.loads(errors.splitlines()[-1])
    step = int(re.search(r"at step (\d+) of 320, which is in a checkpoint", told["message"])[1])  # type: ignore[index]
    assert told["event"] == "preempted"
    assert trace_of(runs, "moved").step.tolist() == list(range(1, step + 1))
    assert not s3.exists(f"{runs}/moved/result.json")
    assert not s3.exists(f"{runs}/.moved.lease")

    again = arguments(shared_place, "moved", *on_s3, "cluster.num_workers=1")
    second = recsys_mtl(cluster, *again)
    assert second.returncode == 0, second.stderr
    trace, result = trace_of(runs, "moved"), result_of(runs, "moved")
    assert result["world_size"] == 1
    assert set(trace.attempt) == {1, 2}
    plain = result_of(shared_place.runs, "undisturbed")
    assert_same_training(trace, result, undisturbed, plain)

    third = recsys_mtl(cluster, *again)
    assert third.returncode == 0
    assert "is finished" in third.stdout


def test_a_run_of_another_method_is_refused(
    shared_place: Place, cluster: dict[str, str], undisturbed: pd.DataFrame
) -> None:
    overrides = ("training.max_steps=400", "method.alpha=2")
    refused = recsys_mtl(cluster, *arguments(shared_place, "undisturbed", *overrides))
    assert refused.returncode == 2
    assert all(word in refused.stderr for word in ("method.alpha: 0.5 -> 2", "--fresh"))
    assert "Traceback" not in refused.stdout + refused.stderr


def test_a_run_that_has_trained_more_steps_is_refused_before_ray_starts(
    shared_place: Place, cluster: dict[str, str], undisturbed: pd.DataFrame
) -> None:
    config = shared_place.folder / "runs" / "undisturbed" / "config.yaml"
    before = config.read_bytes()
    nowhere = cluster | {"RAY_ADDRESS": "127.0.0.1:1"}
    overrides = ("training.max_steps=7", "training.log_interval_steps=3")
    refused = recsys_mtl(nowhere, *arguments(shared_place, "undisturbed", *overrides))
    assert refused.returncode == 2
    (told,) = map(json.loads, refused.stderr.splitlines())
    assert f"has trained {STEPS} steps, more than the 7 that training.epochs" in told["message"]
    assert config.read_bytes() == before


def test_a_second_driver_waits_for_the_first_and_sigterm_ends_one_that_has_no_workers_yet(
    place: Place, cluster: dict[str, str]
) -> None:
    more = ("run.name=waiting", "data.lanes=8", "cluster.num_workers=8")
    sets = [part for override in more for part in ("--set", override)]
    process, _ = started(cluster, "train", place.yaml, *sets, until="run")
    second, printed = started(cluster, "train", place.yaml, *sets, until="waiting")
    second.kill()
    second.communicate()
    assert f"is being trained by process {process.pid} on" in printed.splitlines()[-1]
    time.sleep(3)  # Ray Train asks for what there is not
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 143, errors
    assert json.loads(errors.splitlines()[-1])["event"] == "preempted"
    assert not list((place.folder / "runs").glob(".*.lease"))
