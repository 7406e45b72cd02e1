"""A body and a method of someone's own, written outside the package, train by the same step."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.gradients.methods.contract import Evidence, Method, MethodState, TaskWeighting
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.model.bodies.contract import BodyInputs, BodyShape, DropoutMasks, MultiTaskBody
from recsys_mtl.train import train_step
from recsys_mtl.worker.build import build
from recsys_mtl.worker.counts import count_globally
from recsys_mtl.worker.evaluation import evaluate, stream_of
from recsys_mtl.worker.state import Worker
from tests.distributed.test_worker_equivalence import run_yaml

__all__ = ["run_yaml"]


class CrossBody(MultiTaskBody):
    """One cross layer that all tasks share, then a linear head per task."""

    def __init__(self, shape: BodyShape) -> None:
        super().__init__()
        self.cross = nn.Linear(shape.input_width, shape.input_width)
        self.heads = nn.ModuleList(nn.Linear(shape.input_width, 1) for _ in shape.task_names)

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        x = torch.cat(inputs, dim=1)
        return (x * self.cross(x) + x,)

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        return self.heads[task](representation[0]).squeeze(1)

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return {f"cross.{name}": p for name, p in self.cross.named_parameters()}

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        return {f"heads.{task}.{name}": p for name, p in self.heads[task].named_parameters()}

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return {"cross": ("cross.weight", "cross.bias")}


def equal_norms(evidence: Evidence, state: MethodState) -> tuple[TaskWeighting, MethodState]:
    """Every task's gradient scaled to the mean norm."""
    norms = evidence.gram.diagonal().sqrt()
    weights = torch.where(norms > 0, norms.mean() / norms, 0.0)
    return TaskWeighting(weights, weights), {"steps": state["steps"] + 1}


EQUAL_NORMS = Method(
    "equal_norms",
    frozenset({"gram"}),
    equal_norms,
    initial_state=lambda num_tasks: {"steps": torch.zeros(())},
)


def worker_of(path: Path, context: WorkerContext, *overrides: str) -> Worker:
    config = load_config(path, ("training.global_batch_size=128", *overrides))
    manifest = read_manifest(config.data.train, config.data)
    return build(config, context, manifest, body=CrossBody, method=EQUAL_NORMS)


def train(worker: Worker, steps: int) -> None:
    manifest = read_manifest(worker.config.data.train, worker.config.data)
    with stream_of(worker.model, manifest, worker.plan, 0, steps) as batches:
        for batch in batches:
            train_step(worker, batch, count_globally(batch, stop_asked=False), PhaseClock())


@pytest.mark.parametrize("mode", ["scope: all", "scope: bottom", "space: representation"])
def test_they_train_in_every_mode(run_yaml: Path, alone: WorkerContext, mode: str) -> None:
    adam = "optimizer={dense: {kind: adam, learning_rate: 0.01}}"
    worker = worker_of(run_yaml, alone, f"gradients={{{mode}}}", adam)
    manifest = read_manifest(worker.config.data.eval, worker.config.data)
    before = evaluate(worker.model, manifest)["purchase"]["auc"]
    train(worker, 40)
    assert evaluate(worker.model, manifest)["purchase"]["auc"] > max(0.7, before + 0.1)
    assert worker.weigher.state["steps"] == 40


def test_what_they_are_and_remember_is_in_the_checkpoint(
    run_yaml: Path, alone: WorkerContext
) -> None:
    names = worker_of(run_yaml, alone).state_dict().keys()
    assert {"cross.weight", "heads.2.bias", "method.steps", "tables.user"} <= names


def test_a_body_that_declares_too_little_is_refused(run_yaml: Path, alone: WorkerContext) -> None:
    class Forgetful(CrossBody):
        def __init__(self, shape: BodyShape) -> None:
            super().__init__(shape)
            self.scale = nn.Parameter(torch.ones(1))

    config = load_config(run_yaml)
    manifest = read_manifest(config.data.train, config.data)
    with pytest.raises(UserError, match="parameter 'scale' of the body Forgetful is declared now"):
        build(config, alone, manifest, body=Forgetful)


def test_a_method_that_reads_layers_is_refused_where_the_body_shares_none(
    run_yaml: Path, alone: WorkerContext
) -> None:
    class Apart(CrossBody):
        """Every task has a head of its own on the inputs, and nothing else."""

        def __init__(self, shape: BodyShape) -> None:
            super().__init__(shape)
            del self.cross

        def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
            return tuple(inputs)

        def logits(
            self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks
        ) -> Tensor:
            return self.heads[task](torch.cat(representation, dim=1)).squeeze(1)

        def shared_parameters(self) -> dict[str, nn.Parameter]:
            return {}

        def shared_layers(self) -> dict[str, tuple[str, ...]]:
            return {}

    config = load_config(run_yaml, ("method={kind: gradnorm}",))
    manifest = read_manifest(config.data.train, config.data)
    with pytest.raises(UserError, match=r"'gradnorm' reads .*shared layers, and the body Apart"):
        build(config, alone, manifest, body=Apart)


def test_a_parameter_with_the_name_of_a_table_is_refused(
    run_yaml: Path, alone: WorkerContext
) -> None:
    class Presumptuous(CrossBody):
        def shared_parameters(self) -> dict[str, nn.Parameter]:
            return {"tables.user": self.cross.weight, "cross.bias": self.cross.bias}

        def shared_layers(self) -> dict[str, tuple[str, ...]]:
            return {"cross": ("tables.user", "cross.bias")}

    config = load_config(run_yaml)
    manifest = read_manifest(config.data.train, config.data)
    with pytest.raises(UserError, match=r"Presumptuous has a parameter 'tables\.user', which is"):
        build(config, alone, manifest, body=Presumptuous)
