"""Each of what a step reads and moves decides alone that the whole step is skipped."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.config.file import load_config
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.gradients.methods.contract import Evidence, Method, MethodState, TaskWeighting
from recsys_mtl.model.bodies.contract import BodyShape
from recsys_mtl.worker.build import build
from recsys_mtl.worker.evaluation import stream_of
from recsys_mtl.worker.state import Worker
from tests.distributed.test_single_steps import numbers, run_yaml, step
from tests.unit.model.small_bodies import TASK_NAMES, TiedBody

__all__ = ["run_yaml"]


class RootBody(TiedBody):
    """Adds the root of a parameter to each logit: at 0 the logit is finite, the gradient is not."""

    def __init__(self, shape: BodyShape) -> None:
        super().__init__(shape)
        self.shared_root = nn.Parameter(torch.ones(1))
        self.roots = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in shape.task_names)

    def logits(
        self, representation: tuple[Tensor, ...], task: int, masks: Mapping[str, Tensor]
    ) -> Tensor:
        logits = super().logits(representation, task, masks)
        return logits + self.roots[task].sqrt() + self.shared_root.sqrt()

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return super().shared_parameters() | {"root": self.shared_root}

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        own = {f"roots.{TASK_NAMES[task]}": self.roots[task]}
        return super().task_parameters(task) | own

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return super().shared_layers() | {"root": ("root",)}


def worker_and_batches(
    path: Path, context: WorkerContext, *overrides: str, method: Method | None = None
) -> tuple[Worker, list[ClickBatch]]:
    config = load_config(path, overrides)
    manifest = read_manifest(config.data.train, config.data)
    worker = build(config, context, manifest, body=RootBody, method=method)
    with stream_of(worker, manifest, worker.plan, 0, 3) as batches:
        return worker, list(batches)


def assert_nothing_moves(worker: Worker, batch: ClickBatch) -> None:
    before = numbers(worker)
    record = step(worker, batch)
    assert record.losses.isfinite().all()
    assert record.skipped
    after = numbers(worker)
    assert after.keys() == before.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0, msg=name)


every_method = pytest.mark.parametrize("method", ["uniform", "gradops", "gradvac", "gradnorm"])
every_limit = pytest.mark.parametrize("limit", ["null", "1.0"])


@every_method
@every_limit
@pytest.mark.parametrize("root", ["root", "roots.cart"])
def test_one_gradient_that_is_not_finite_is_enough(
    run_yaml: Path, alone: WorkerContext, method: str, limit: str, root: str
) -> None:
    overrides = (f"method={{kind: {method}}}", f"training.gradient_clip_norm={limit}")
    worker, batches = worker_and_batches(run_yaml, alone, *overrides)
    assert not step(worker, batches[0]).skipped  # Adam has momentum from here on
    memory = worker.model.shared if root == "root" else worker.model.task_specific
    memory.views(memory.vector)[root].zero_()
    assert_nothing_moves(worker, batches[1])
    memory.views(memory.vector)[root].fill_(1.0)
    assert not step(worker, batches[2]).skipped


def fails(evidence: Evidence, state: MethodState) -> tuple[TaskWeighting, MethodState]:
    """Gives no number from the second step on, and counts its steps."""
    factor = 1.0 if evidence.step == 0 else torch.nan
    weights = torch.full((3,), factor, dtype=torch.float64)
    return TaskWeighting(weights, weights), {"steps": state["steps"] + 1}


@pytest.mark.parametrize("needs", [(), ("losses",), ("gram",)])
@every_limit
def test_weights_that_are_not_finite_are_enough(
    run_yaml: Path, alone: WorkerContext, needs: tuple[str, ...], limit: str
) -> None:
    method = Method("fails", frozenset(needs), fails, lambda _: {"steps": torch.zeros(())})
    clip = f"training.gradient_clip_norm={limit}"
    worker, batches = worker_and_batches(run_yaml, alone, clip, method=method)
    assert not step(worker, batches[0]).skipped
    assert_nothing_moves(worker, batches[1])
    assert worker.weigher.state["steps"] == 1
