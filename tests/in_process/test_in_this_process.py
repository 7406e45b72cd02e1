"""Runs without Ray: `cluster.num_workers: 0`, where `import ray` raises."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.driver.launch import launch
from recsys_mtl.gradients.methods.contract import Evidence, Method, MethodState, TaskWeighting
from recsys_mtl.model.bodies.contract import BodyInputs, BodyShape, DropoutMasks, MultiTaskBody
from tests.end_to_end.runs import free_port, recsys_mtl, scrape, started, wait_until
from tests.in_process.demo_runs import (
    STEPS,
    TASKS,
    command,
    committed,
    config_of,
    losses_and_weights,
    tensors_of,
    trace_of,
    write_demo_log,
)

README = Path(__file__).parents[2] / "README.md"
NO_RAY = """\
import sys


class NoRay:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError("a run of num_workers: 0 imports ray")


sys.meta_path.insert(0, NoRay())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic log of 3,000 clicks, and `runs`."""
    return write_demo_log(tmp_path_factory.mktemp("in_this_process"))


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    """Where no process can import Ray."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(NO_RAY)
    path = os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])
    made = os.environ | {"PYTHONPATH": path}
    importing = [sys.executable, "-c", "import ray"]
    assert subprocess.run(importing, env=made, capture_output=True).returncode == 1
    return made


@pytest.fixture(scope="module")
def undisturbed(folder: Path, environment: dict[str, str]) -> pd.DataFrame:
    """The trace of a run that nothing happened to."""
    done = recsys_mtl(environment, *command(folder, "undisturbed"))
    assert (done.returncode, done.stderr) == (0, "")
    return trace_of(folder, "undisturbed")


def test_a_run_leaves_what_a_run_on_ray_leaves(folder: Path, undisturbed: pd.DataFrame) -> None:
    run = folder / "runs" / "undisturbed"
    result = json.loads((run / "result.json").read_text())
    assert (result["steps"], result["world_size"]) == (STEPS, 1)
    assert set(result["tasks"]) == set(TASKS)
    assert result["parameters"].keys() == {"shared", "tables", "task_specific"}
    assert (run / "traces.png").read_bytes().startswith(b"\x89PNG")
    assert undisturbed.step.tolist() == list(range(1, STEPS + 1))
    assert set(undisturbed.attempt) == {1}
    there = {path.name for path in run.iterdir() if "checkpoint" in path.name}
    assert there == {"local_checkpoints.json", *committed(folder, "undisturbed")}
    assert len(committed(folder, "undisturbed")) == 2
    assert not list((folder / "runs").glob(".undisturbed.lease"))


def test_a_run_killed_after_a_checkpoint_goes_on_to_the_same_bits(
    folder: Path, environment: dict[str, str], undisturbed: pd.DataFrame
) -> None:
    process, _ = started(environment, *command(folder, "killed"), until="run")
    wait_until(
        lambda: committed(folder, "killed"), timeout_seconds=120, what="a committed checkpoint"
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "runs" / "killed" / "result.json").exists(), "it was killed in time"
    done = recsys_mtl(environment, *command(folder, "killed"))
    assert (done.returncode, done.stderr) == (0, "")
    trace = trace_of(folder, "killed")
    assert set(trace.attempt) == {1, 2}
    pd.testing.assert_frame_equal(
        losses_and_weights(trace), losses_and_weights(undisturbed), check_exact=True
    )
    killed, plain = tensors_of(folder, "killed"), tensors_of(folder, "undisturbed")
    assert killed.keys() == plain.keys()
    assert any(name.startswith("accumulator.tables.") for name in plain)
    for name, tensor in plain.items():
        assert torch.equal(killed[name], tensor), name


@pytest.fixture(scope="module")
def ended(folder: Path, environment: dict[str, str]) -> tuple[dict[str, float], int, str]:
    """Of a long run that got SIGTERM: its metrics before, its exit status, what it told last."""
    long = ("training.max_steps=100000", "metrics.linger_seconds=1")
    process, printed = started(environment, *command(folder, "ended", *long), until="progress")
    (url,) = re.findall(r'"url": "(http[^"]+)"', printed)
    page = scrape(url)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    return page, process.returncode, errors


def test_a_run_serves_its_metrics_from_its_own_process(
    ended: tuple[dict[str, float], int, str],
) -> None:
    page, _, _ = ended
    of_run = '{run="ended"}'
    assert page[f"recsys_mtl_run_workers{of_run}"] == 1
    assert page[f"recsys_mtl_steps_total{of_run}"] >= 5
    assert page['recsys_mtl_run_state{run="ended",state="running"}'] == 1


def test_sigterm_ends_a_run_with_a_checkpoint_of_its_last_step(
    folder: Path, ended: tuple[dict[str, float], int, str]
) -> None:
    _, status, errors = ended
    assert status == 143, errors
    told = json.loads(errors.splitlines()[-1])
    found = re.search(r"at step ([\d,]+) of 100,000, which is in a checkpoint", told["message"])
    assert found is not None, told
    newest = folder / "runs" / "ended" / committed(folder, "ended")[-1]
    step = int(found[1].replace(",", ""))
    assert json.loads((newest / "run.json").read_text())["step"] == step
    assert trace_of(folder, "ended").step.tolist() == list(range(1, step + 1))


def test_ctrl_c_ends_a_run_which_leaves_its_lease_and_its_checkpoints(
    folder: Path, environment: dict[str, str]
) -> None:
    endless = ("training.max_steps=100000", "training.checkpoint_interval_steps=5")
    process, _ = started(environment, *command(folder, "interrupted", *endless), until="progress")
    wait_until(
        lambda: committed(folder, "interrupted"), timeout_seconds=60, what="a first checkpoint"
    )
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    (told,) = map(json.loads, errors.splitlines())
    assert told["event"] == "interrupted"
    assert committed(folder, "interrupted")
    assert not list((folder / "runs").glob(".interrupted.lease"))


def test_the_readme_s_run_from_python_trains(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "clicks.yaml").write_text(config_of(folder, "readme").to_yaml())
    monkeypatch.chdir(folder)
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (example,) = [found for found in examples if "num_workers=0" in found]
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["result"]["steps"] == 20
    assert f"{names['result']['tasks']['purchase']['auc']}\n" in capsys.readouterr().out


class OneLayer(MultiTaskBody):
    """One shared layer, and one weight vector per task."""

    def __init__(self, shape: BodyShape) -> None:
        super().__init__()
        self.shared = nn.Linear(shape.input_width, 4)
        self.own = nn.ParameterList([nn.Parameter(torch.randn(4)) for _ in shape.task_names])

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        return (self.shared(torch.cat([inputs.pooled, inputs.dense], dim=1)).relu(),)

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        return representation[0] @ self.own[task]

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return {f"layer.{name}": p for name, p in self.shared.named_parameters()}

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        return {f"own.{task}": self.own[task]}

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return {"layer": ("layer.weight", "layer.bias")}


def halve(evidence: Evidence, state: MethodState) -> tuple[TaskWeighting, MethodState]:
    halves = torch.full(evidence.labelled.shape, 0.5, dtype=torch.float64)
    return TaskWeighting(coefficients=halves, weights=halves), state


HALVES = Method("halves", frozenset(), halve)


def test_a_body_and_a_method_of_one_s_own_train_and_go_on(folder: Path) -> None:
    shorter, longer = (config_of(folder, "own", f"training.max_steps={end}") for end in (5, 10))
    launch(shorter, fresh=False, body=OneLayer, method=HALVES)
    result = launch(longer, fresh=False, body=OneLayer, method=HALVES)
    assert result["method"] == {"kind": "halves"}
    assert result["compared_steps"] is None
    assert {numbers["mean_weight"] for numbers in result["tasks"].values()} == {0.5}
    assert result["parameters"]["task_specific"] == 4 * len(TASKS)
    assert trace_of(folder, "own").attempt.tolist() == [1] * 5 + [2] * 5
    assert tensors_of(folder, "own")["own.2"].shape == (4,)


def test_runs_follow_each_other_in_one_process_on_one_port_and_in_any_thread(folder: Path) -> None:
    draws, threads = torch.get_rng_state(), {thread.name for thread in threading.enumerate()}
    short = ("training.max_steps=5", f"metrics.port={free_port()}")
    first = launch(config_of(folder, "first", *short), fresh=False)
    results: list[dict[str, Any]] = []
    thread = threading.Thread(
        target=lambda: results.append(launch(config_of(folder, "second", *short), fresh=False))
    )
    thread.start()
    thread.join(timeout=120)
    (second,) = results
    assert first["tasks"] == second["tasks"]
    assert torch.equal(torch.get_rng_state(), draws)
    assert {thread.name for thread in threading.enumerate()} == threads
