"""A run in its driver's process, and the same on one worker of Ray."""

import json
import os
from pathlib import Path

import pandas as pd

from recsys_mtl.driver.committed import checkpoints_of
from recsys_mtl.driver.launch import launch
from recsys_mtl.driver.storage import Folder
from tests.in_process.demo_runs import (
    STEPS,
    command,
    config_of,
    losses_and_weights,
    trace_of,
    write_demo_log,
)

from .runs import recsys_mtl


def test_the_numbers_are_those_of_one_worker_on_ray(
    tmp_path: Path, cluster: dict[str, str]
) -> None:
    folder = write_demo_log(tmp_path)
    search = "recon={threshold: 0, search_share: 0.5}"
    here_found = launch(config_of(folder, "undisturbed", search))
    # Evaluations between change no number of training.
    compared = (
        search,
        "training.evaluation_interval_steps=20",
        "training.best_by=mean_auc",
        "training.checkpoints_kept=1",
    )
    done = recsys_mtl(cluster, *command(folder, "on_ray", *compared, num_workers=1))
    assert done.returncode == 0, done.stderr
    on_ray = json.loads((folder / "runs" / "on_ray" / "result.json").read_text())
    assert on_ray["recon"] == here_found["recon"]
    assert on_ray["recon"]["search_steps"] == STEPS // 2
    best = on_ray["best"]
    found = checkpoints_of(Folder(f"{folder}/runs/on_ray"))
    assert {c.step for c in found} == {best["step"], STEPS}
    assert {c.name: c.score for c in found}[best["checkpoint"]] == best["value"]
    pd.testing.assert_frame_equal(
        losses_and_weights(trace_of(folder, "on_ray")),
        losses_and_weights(trace_of(folder, "undisturbed")),
        check_exact=True,
    )
    # Neither goes on with, nor speaks for, the other's run.
    there = recsys_mtl(dict(os.environ), *command(folder, "on_ray", search))
    here = recsys_mtl(cluster, *command(folder, "undisturbed", search, num_workers=1))
    for refused, begun, remedy in (
        (there, "begun on Ray", "set cluster.num_workers to 1 or more"),
        (here, "begun in its driver's process", "set cluster.num_workers to 0"),
    ):
        assert refused.returncode == 2, refused.stdout
        (line,) = refused.stderr.splitlines()
        assert all(word in line for word in (begun, remedy, "another run.name", "--fresh"))
