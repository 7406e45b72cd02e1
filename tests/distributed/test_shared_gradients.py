"""Rows of gradients of any body, on both sides of the cut, are those of plain autograd."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from recsys_mtl.config.file import load_config
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.distributed.collectives import PendingSums
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.gradients.methods.contract import TaskWeighting
from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.model.bodies.contract import BodyInputs
from recsys_mtl.model.losses import task_losses
from recsys_mtl.worker.build import build
from recsys_mtl.worker.evaluation import stream_of
from recsys_mtl.worker.shared_gradients import SharedGradients, backward_through_trunk
from recsys_mtl.worker.state import Worker
from tests.distributed.test_single_steps import run_yaml
from tests.unit.model.small_bodies import BODIES

__all__ = ["run_yaml"]

# P shared parameters, E columns of pooled embeddings, T tasks
WEIGHTING = TaskWeighting(
    coefficients=torch.tensor([1.01, -9.1, 2.0], dtype=torch.float64),
    weights=torch.tensor([1.0, 0.5, 1.5], dtype=torch.float64),
)
every_body = pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)


class Expected(NamedTuple):
    """What plain autograd gives on a graph without a cut."""

    rows: dict[str, Tensor]
    """By name, [T, ...] of the shared parameters."""
    pooled: Tensor
    """[T, B, E]"""


def worker_and_batch(
    path: Path, context: WorkerContext, make: BodyFactory, *overrides: str
) -> tuple[Worker, ClickBatch]:
    config = load_config(path, ("model.dropout=0.2", *overrides))
    manifest = read_manifest(config.data.train, config.data)
    worker = build(config, context, manifest, body=make)
    with stream_of(worker, manifest, worker.plan, 0, 1) as batches:
        (batch,) = batches
    return worker, batch


def losses_of(logits: Tensor, batch: ClickBatch) -> Tensor:
    return task_losses(logits, batch.labels, batch.label_mask, batch.label_mask.sum(dim=0))


def found(worker: Worker, batch: ClickBatch, combine_by: TaskWeighting | None) -> SharedGradients:
    """By the step's own way, into rows that hold another step's numbers."""
    for row in worker.shared_rows:
        for view in worker.model.shared.views(row).values():
            view.fill_(torch.nan)
    lookup = worker.model.look_up(batch)
    forward = worker.model.forward(lookup, batch.dense, worker.dropout_masks(batch.step))
    tasks = forward.backward_to_representation(losses_of(forward.logits, batch))
    sums = PendingSums()
    shared = backward_through_trunk(worker, forward, tasks, sums, combine_by)
    sums.wait()
    return shared


def expected(worker: Worker, batch: ClickBatch) -> Expected:
    lookup = worker.model.look_up(batch)
    assert lookup is not None
    pooled, masks = lookup.pooled.detach().requires_grad_(), worker.dropout_masks(batch.step)
    parts = worker.model.body.representation(BodyInputs(pooled, batch.dense), masks)
    logits = torch.stack([worker.model.body.logits(parts, task, masks) for task in range(3)], dim=1)
    shared = worker.model.body.shared_parameters()
    rows = [
        torch.autograd.grad(
            loss,
            [*shared.values(), pooled],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        for loss in losses_of(logits, batch)
    ]
    *columns, at_pooled = (torch.stack(tasks) for tasks in zip(*rows, strict=True))
    return Expected(dict(zip(shared, columns, strict=True)), at_pooled)


def assert_row(worker: Worker, row: Tensor, values: dict[str, Tensor]) -> None:
    views = worker.model.shared.views(row)
    assert views.keys() == values.keys()
    for name, value in values.items():
        torch.testing.assert_close(views[name], value, rtol=1e-4, atol=1e-6, msg=name)
    padding = row.clone()
    for view in worker.model.shared.views(padding).values():
        view.zero_()
    assert not padding.any()


@every_body
def test_each_task_s_row_is_that_of_autograd(
    run_yaml: Path, alone: WorkerContext, make: BodyFactory
) -> None:
    worker, batch = worker_and_batch(run_yaml, alone, make)
    gradients, plain = found(worker, batch, None), expected(worker, batch)
    for task in range(3):
        values = {name: rows[task] for name, rows in plain.rows.items()}
        assert_row(worker, gradients.rows[task], values)
        torch.testing.assert_close(gradients.pooled[task], plain.pooled[task], rtol=1e-4, atol=1e-6)


def weighed(factors: Tensor, rows: Tensor) -> Tensor:
    return torch.tensordot(factors, rows.double(), dims=1).float()


@every_body
@pytest.mark.parametrize("scope", ["all", "bottom"])
def test_one_row_for_all_is_the_combination_and_tables_outside_take_the_weights(
    run_yaml: Path, alone: WorkerContext, make: BodyFactory, scope: str
) -> None:
    worker, batch = worker_and_batch(run_yaml, alone, make, f"gradients.scope={scope}")
    gradients, plain = found(worker, batch, WEIGHTING), expected(worker, batch)
    (row,), (pooled,) = gradients.rows, gradients.pooled
    coefficients, weights = WEIGHTING.coefficients, WEIGHTING.weights
    assert_row(worker, row, {n: weighed(coefficients, rows) for n, rows in plain.rows.items()})
    factors = coefficients if scope == "all" else weights
    torch.testing.assert_close(pooled, weighed(factors, plain.pooled), rtol=1e-4, atol=1e-6)


@every_body
def test_outside_the_products_the_tables_gradient_waits_for_the_weights(
    run_yaml: Path, alone: WorkerContext, make: BodyFactory
) -> None:
    worker, batch = worker_and_batch(run_yaml, alone, make, "gradients.scope=bottom")
    gradients = found(worker, batch, None)
    assert gradients.pooled == []
    assert len(gradients.stems) == 3
