"""A run's first steps once more, as plainly as torch can say them.

One process, dense tables, float64, one gradient per task by autograd on the whole graph, methods on
the vectors themselves: nothing of sharding, cuts, flat memory, Gram matrices or fused optimizers.
"""

# B batch rows, E columns of all pooled embeddings, T tasks

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, embedding_bag

from recsys_mtl.config import CosineSchedule, RunConfig, SgdConfig
from recsys_mtl.config.file import load_config
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.features import table_sizes
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.plan import plan_of
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.model.bodies.build import body_factory, build_body
from recsys_mtl.model.bodies.contract import BodyInputs, MultiTaskBody
from recsys_mtl.model.dropout import dropout_masks
from recsys_mtl.model.embeddings import initial_rows
from recsys_mtl.worker.body import body_shape
from tests.distributed.plain_methods import plain_method


def train_plainly(run_yaml: str, steps: int, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Losses, weights and coefficients of each step [steps, T], then every parameter and table;
    and of each step the products of the tasks' gradients in each layer and table [steps, L, T, T].

    With gradient descent on the dense part and the tables, without clipping.
    """
    config = load_config(run_yaml, overrides)
    dense, tasks = config.optimizer.dense, len(config.task_names)
    assert isinstance(dense, SgdConfig)
    assert config.optimizer.tables.kind == "sgd"
    manifest = read_manifest(config.data.train, config.data)
    size, seed = config.training.global_batch_size, config.run.seed
    plan = plan_of(manifest, config.data, global_batch_size=size, seed=seed)
    body = build_body(body_factory(config.model), body_shape(config), seed).double()
    own = {n: p for task in range(tasks) for n, p in body.task_parameters(task).items()}
    shared, tables, weigh = body.shared_parameters(), initial_tables(config), plain_method(config)
    found: dict[str, list[Tensor]] = {"losses": [], "weights": [], "coefficients": []}
    grams = []
    cached = torch.ones(tasks).double(), torch.ones(tasks).double()
    stream = BatchStream(
        manifest, plan, config.data, rank=0, world_size=1, first_step=0, last_step=steps
    )
    with stream as batches:
        for batch in batches:
            masks = dropout_masks(
                body.dropout_sites(),
                config.model.dropout,
                seed=seed,
                step=batch.step,
                lanes=range(plan.lanes),
                rows_per_lane=plan.rows_per_lane,
                like=torch.zeros(()).double(),
            )
            evidence = gradients_of(config, body, batch, tables, masks)
            grams.append(grams_of_parts(body, evidence))
            if batch.step % config.gradients.refresh_interval_steps == 0:
                cached = weigh(
                    batch.step,
                    evidence.compared,
                    evidence.last_layer,
                    evidence.losses,
                    batch.label_mask.any(dim=0),
                )
            coefficients, weights = cached
            outside = coefficients if config.gradients.scope == "all" else weights
            factor = plain_factor(config, batch.step)
            with torch.no_grad():
                for name, parameter in shared.items():
                    update = torch.tensordot(coefficients, evidence.shared[name], dims=1)
                    parameter -= factor * dense.learning_rate * update
                for name, parameter in own.items():
                    parameter -= factor * dense.learning_rate * evidence.own[name]
                for name, table in tables.items():
                    update = torch.tensordot(outside, evidence.tables[name], dims=1)
                    table -= factor * config.optimizer.tables.learning_rate * update
            for name, value in zip(found, (evidence.losses, weights, coefficients), strict=True):
                found[name].append(value)
    return {name: torch.stack(values) for name, values in found.items()} | {
        "grams": torch.stack(grams),
        "parameters": {name: p.detach() for name, p in (shared | own).items()},
        "tables": {f"tables.{name}": table.detach() for name, table in tables.items()},
    }


def plain_factor(config: RunConfig, step: int) -> float:
    """What learning rates are multiplied by in a run that `max_steps` ends."""
    warm_up, end = config.training.warm_up_steps, config.training.max_steps
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    if config.optimizer.schedule.kind == "constant":
        return 1.0
    assert isinstance(config.optimizer.schedule, CosineSchedule)
    assert end is not None
    final, angle = config.optimizer.schedule.final_factor, math.pi * (step - warm_up)
    return final + (1 - final) * (1 + math.cos(angle / (end - warm_up))) / 2


@dataclass(frozen=True)
class PlainGradients:
    """All gradients of one step."""

    losses: Tensor
    """[T]"""
    shared: dict[str, Tensor]
    """[T, ...] each task's gradient of each shared parameter of the body."""
    own: dict[str, Tensor]
    """The gradient of each task's own parameters, of its own loss."""
    tables: dict[str, Tensor]
    """[T, rows, D] each task's gradient of each table."""
    compared: Tensor
    """[T, numbers] what the method compares, side by side."""
    last_layer: Tensor
    """[T, numbers] of the last shared layer; no numbers where every layer is task-specific."""


def gradients_of(
    config: RunConfig,
    body: MultiTaskBody,
    batch: ClickBatch,
    tables: dict[str, Tensor],
    masks: dict[str, Tensor],
) -> PlainGradients:
    """Of each task's loss for everything, by autograd on a graph without a cut."""
    tasks, space = range(len(config.task_names)), config.gradients.space
    inputs = BodyInputs(pooled(config, batch, tables), batch.dense.double())
    parts = body.representation(inputs, masks)
    losses = mean_losses(torch.stack([body.logits(parts, t, masks) for t in tasks], 1), batch)
    shared = body.shared_parameters()
    of_shared = {name: every_task(losses, p) for name, p in shared.items()}
    of_tables = {name: every_task(losses, table) for name, table in tables.items()}
    own = {n: p for task in tasks for n, p in body.task_parameters(task).items()}
    inside = of_tables if config.gradients.scope == "all" else {}
    if space == "representation":
        # Tasks part there: what a loss reads of an input without the trunk counts by itself.
        cut = [part.detach().requires_grad_() for part in parts]
        again = torch.stack([body.logits(tuple(cut), t, masks) for t in tasks], 1)
        counted = [
            leaf
            for leaf, part in zip(cut, parts, strict=True)
            if part is not inputs.dense
            and (part is not inputs.pooled or config.gradients.scope == "all")
        ]
        compared = [every_task(mean_losses(again, batch), leaf) for leaf in counted]
    else:
        compared = [*of_shared.values(), *inside.values()]
    layers = list(body.shared_layers().values())
    last = [of_shared[name] for name in (layers[-1] if layers else ())]
    return PlainGradients(
        losses=losses.detach(),
        shared=of_shared,
        own={n: every_task(losses, p).sum(dim=0) for n, p in own.items()},
        tables=of_tables,
        compared=side_by_side(compared, len(tasks)),
        last_layer=side_by_side(last, len(tasks)),
    )


def grams_of_parts(body: MultiTaskBody, found: PlainGradients) -> Tensor:
    """[L, T, T] Products of the tasks' gradients in each shared layer, then in each table."""
    layers = [[found.shared[name] for name in names] for names in body.shared_layers().values()]
    parts = [*layers, *([table] for table in found.tables.values())]
    rows = [side_by_side(part, len(found.losses)) for part in parts]
    return torch.stack([row @ row.T for row in rows])


def side_by_side(gradients: list[Tensor], num_tasks: int) -> Tensor:
    """[T, numbers] Gradients [T, ...] of several tensors; no numbers where there is no tensor."""
    empty = torch.zeros(num_tasks, 0).double()
    return torch.cat([empty, *(gradient.flatten(1) for gradient in gradients)], dim=1)


def every_task(losses: Tensor, leaf: Tensor) -> Tensor:
    """[T, ...] Each loss's gradient of one tensor; zero where the loss does not depend on it."""
    found = [
        torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True)[0] for loss in losses
    ]
    return torch.stack([torch.zeros_like(leaf) if g is None else g for g in found])


def initial_tables(config: RunConfig) -> dict[str, Tensor]:
    """Owner to its whole table."""
    features = dict(config.data.id_features())
    return {
        owner: initial_rows(
            seed=config.run.seed,
            table=place,
            total_rows=rows,
            dim=features[owner].embedding_dim or 0,
            start=0,
            stop=rows,
        )
        .double()
        .requires_grad_()
        for place, (owner, rows) in enumerate(table_sizes(config.data).items())
    }


def pooled(config: RunConfig, batch: ClickBatch, tables: dict[str, Tensor]) -> Tensor:
    """[B, E] Pooled embeddings of every feature, in the configuration's order."""
    assert batch.ids is not None
    columns = []
    for name, feature in config.data.id_features():
        values, lengths = batch.ids.bags_of(name)
        starts = torch.cumsum(lengths, 0) - lengths
        table = tables[feature.table or name]
        columns.append(embedding_bag(values, table, starts, mode=feature.pooling))
    return torch.cat(columns, dim=1)


def mean_losses(logits: Tensor, batch: ClickBatch) -> Tensor:
    """[T] Mean over the labelled rows."""
    entropies = binary_cross_entropy_with_logits(logits, batch.labels.double(), reduction="none")
    mask = batch.label_mask.double()
    return (entropies * mask).sum(dim=0) / mask.sum(dim=0).clamp(min=1)
