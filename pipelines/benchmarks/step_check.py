"""Whether a training step moves what its method defines, before anything is timed.

Every task's gradient is taken by plain autograd on dense tables and combined in float64.
"""

# B rows, T tasks, P parameters of the bottom

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import embedding

from pipelines.benchmarks import cones
from pipelines.benchmarks.step_contenders import ALPHA, CHECK_RATE, FEATURES, contender
from pipelines.benchmarks.weights import (
    dw_weights,
    gradvac_weights,
    imtl_g_weights,
    pcgrad_weights,
    plain_gram,
    projected_weights,
    upgrad_weights,
)
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.gradients import gradops_reference
from recsys_mtl.gradients.methods.pcgrad import draw_order
from recsys_mtl.model.bodies.contract import BodyInputs
from recsys_mtl.model.losses import task_losses
from recsys_mtl.worker.state import Worker

TOLERANCE = 1e-4
"""The error that an update from float32 gradients may have, relative to its terms."""


@dataclass(frozen=True)
class PlainGradients:
    """Every task's gradient at the initial parameters, by autograd on dense tables."""

    bottom: Tensor
    """[T, P]"""
    tables: Tensor
    """[T, all tables' numbers]"""
    representation: Tensor
    """[T, B H] of its first part."""


def check(names: Sequence[str], batch: ClickBatch) -> None:
    """Compare what each method moves in one step of plain descent with its definition.

    Raises:
        SystemExit: some method is wrong; nothing may be timed.
    """
    wrong = []
    for name in names:
        torch.manual_seed(0)  # PCGrad draws an order
        bottom, tables, plain = moved(name, batch)
        torch.manual_seed(0)
        inside, outside = expected_weights(name, plain)
        errors = (
            error_of(found, weights, gradients.double())
            for found, weights, gradients in (
                (bottom, inside, plain.bottom),
                (tables, outside, plain.tables),
            )
        )
        # TorchJD's Gram is float32: its PCGrad was seen 4e-3 off its definition.
        limit = 2e-2 if name.startswith("torchjd") else TOLERANCE
        wrong += [f"{name} (relative error {e:.1e})" for e in errors if not e <= limit]
    if wrong:
        raise SystemExit(f"wrong update: {', '.join(wrong)}; nothing was timed.")


def error_of(found: Tensor, weights: Tensor, gradients: Tensor) -> float:
    """|found - sum_i w_i g_i| over sum_i |w_i g_i|, which does not vanish where terms cancel."""
    terms = weights[:, None] * gradients
    return float((found - terms.sum(dim=0)).norm() / terms.norm(dim=1).sum())


def moved(name: str, batch: ClickBatch) -> tuple[Tensor, Tensor, PlainGradients]:
    """What one step takes off bottom [P] and tables, and the tasks' gradients before it.

    With held coefficients it is the step after the refresh, from the same parameters.
    """
    found = contender(name, len(batch.labels), "sgd")
    worker = found.worker
    tables = table_tensors(worker)
    parameters = [worker.model.shared.vector, worker.model.task_specific.vector, *tables]
    before = [p.clone() for p in parameters]
    plain = plain_gradients(worker, batch, tables)
    for step in [0, 1] if name == "gradops_refresh8" else [0]:
        for parameter, old in zip(parameters, before, strict=True):
            parameter.copy_(old)
        found.step(replace(batch, step=step))
    bottom, _, *rows = (
        (old.double() - new) / CHECK_RATE for old, new in zip(before, parameters, strict=True)
    )
    unpadded = torch.cat([view.flatten() for view in worker.model.shared.views(bottom).values()])
    return unpadded, torch.cat([r.flatten() for r in rows]), plain


def plain_gradients(worker: Worker, batch: ClickBatch, tables: Sequence[Tensor]) -> PlainGradients:
    """By autograd of the model as modules, without a cut, a shard or a flat buffer."""
    assert batch.ids is not None
    dense = [table.clone().requires_grad_() for table in tables]
    ids = batch.ids.values.view(FEATURES, -1)
    inputs = torch.cat([embedding(i, table) for i, table in zip(ids, dense, strict=True)], dim=1)
    body = worker.model.body
    bottom = list(body.shared_parameters().values())
    parts = body.representation(BodyInputs(inputs, batch.dense), {})
    logits = [body.logits(parts, task, {}) for task in range(len(worker.config.task_names))]
    counts = batch.label_mask.sum(dim=0)
    losses = task_losses(torch.stack(logits, dim=1), batch.labels, batch.label_mask, counts)
    wanted = [*bottom, *dense, parts[0]]
    found = [torch.autograd.grad(loss, wanted, retain_graph=True) for loss in losses]

    def stacked(first: int, last: int) -> Tensor:
        return torch.stack([torch.cat([g.flatten() for g in task[first:last]]) for task in found])

    cuts = [len(bottom), len(bottom) + len(dense), len(wanted)]
    return PlainGradients(stacked(0, cuts[0]), stacked(*cuts[:2]), stacked(*cuts[1:]))


def expected_weights(name: str, plain: PlainGradients) -> tuple[Tensor, Tensor]:
    """What the method multiplies the tasks' gradients of bottom and tables by, [T] float64 each."""
    bottom = plain_gram(plain.bottom)
    match name:
        case "uniform" | "uniform_search" | "mmoe_uniform" | "ple_uniform" | "gradnorm":
            weights = torch.ones(len(bottom), dtype=torch.float64)
        case "gradops":
            return reference_weights(bottom)
        case (
            "gradops_all"
            | "gradops_all_search"
            | "gradops_refresh8"
            | "mmoe_gradops_all"
            | "ple_gradops_all"
        ):
            weights, _ = reference_weights(bottom + plain_gram(plain.tables))
        case "gradops_representation":
            weights, _ = reference_weights(plain_gram(plain.representation))
        case "gradops_static":
            return static_weights(bottom)
        case "dw":
            weights = dw_weights(bottom, -1.0)
        case "pcgrad" | "gradvac":  # whose targets are 0 at the first step
            weights = projected_weights(bottom, draw_order(len(bottom), 0, 0), 0.0)
        case "pcgrad_dw":
            weights = projected_weights(bottom, draw_order(len(bottom), 0, 0), -1.0)
        case "mgda":
            weights = cones.mgda(torch.linalg.cholesky(bottom))
        case "mgda_representation":
            weights = cones.mgda(torch.linalg.cholesky(plain_gram(plain.representation)))
        case "cagrad" | "torchjd_cagrad":
            weights = cones.cagrad(torch.linalg.cholesky(bottom), 0.5)
        case "imtl_g":
            weights = cones.imtl_g(torch.linalg.cholesky(bottom))
            return weights, weights.clamp(min=0.0) / weights.clamp(min=0.0).sum()
        case "upgrad":
            weights = cones.upgrad(torch.linalg.cholesky(bottom))
        case "torchjd_pcgrad":
            weights = pcgrad_weights(bottom)
        case "torchjd_gradvac":
            weights = gradvac_weights(bottom)
        case "torchjd_imtl_g":
            weights = imtl_g_weights(bottom)
        case "torchjd_upgrad":
            weights = upgrad_weights(bottom)
        case _:
            raise AssertionError(name)
    return weights, weights


def reference_weights(gram: Tensor) -> tuple[Tensor, Tensor]:
    """GradOPS's coefficients c and weights w by its reference, on coordinates with this Gram."""
    coordinates = torch.linalg.cholesky(gram)
    update, weights, _ = gradops_reference(coordinates, alpha=ALPHA, zero_sine_squared=1e-8)
    return torch.linalg.solve(coordinates.T, update), weights


def static_weights(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients and the weights of `STATIC`, by the reference's projections."""
    coordinates, fixed = torch.linalg.cholesky(gram), torch.tensor([1.5, 0.5, 1.0]).double()
    _, _, projected = gradops_reference(coordinates, alpha=0.0, zero_sine_squared=1e-8)
    return torch.linalg.solve(coordinates.T, fixed @ projected), fixed


def table_tensors(worker: Worker) -> list[Tensor]:
    """Every table [rows, 16], in the order of the features."""
    assert worker.model.tables is not None
    tensors = worker.model.tables.state_dict()
    sharded = [tensors[f"tables.feature_{place}"] for place in range(FEATURES)]
    return [table.local_shards()[0].tensor.detach() for table in sharded]
