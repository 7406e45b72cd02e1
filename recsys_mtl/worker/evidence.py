"""What a method is told of a step, and when: before the shared parameters' gradients or after.

B rows of this worker's batch, T tasks, P shared parameters of the body, L layers of them, K tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from recsys_mtl.distributed.collectives import all_reduce_sum
from recsys_mtl.distributed.sharding import Lookup, ShardOutputGradients
from recsys_mtl.gradients.combination import violates_non_conflict
from recsys_mtl.gradients.conflicts import PairCounts, count_conflicts
from recsys_mtl.model.forward import TaskGradients
from recsys_mtl.worker.counts import GlobalCounts
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.step_mode import StepMode
from recsys_mtl.worker.weighing import Weighed


@dataclass(frozen=True, eq=False)
class Products:
    """Products of the tasks' gradients, the same on every worker."""

    gram: Tensor
    """[T, T] float64: of all parameters in the Gram."""
    body_gram: Tensor
    """[T, T] float64: of the body's shared parameters alone."""
    layer_grams: Tensor | None
    """[L, T, T] float64: the same layer by layer, where the method or a search reads them."""
    table_grams: Tensor | None = None
    """[K, T, T] float64: of each embedding table, at steps of a search."""


def weigh_beforehand(
    worker: Worker,
    mode: StepMode,
    counts: GlobalCounts,
    losses: Tensor,
    tasks: Sequence[TaskGradients],
) -> Weighed | None:
    """The weights of a step that needs no product of parameter gradients for them; else None.

    Args:
        losses: [T] this worker's share, not yet summed.
        tasks: each task's gradients above the representation, and of it.
    """
    weigher, labelled = worker.weigher, counts.labelled > 0
    match mode.weighting:
        case "parameters":
            return None
        case "cache":
            return weigher.weigh_as_before()
        case "losses":
            if "losses" not in weigher.method.needs:
                return weigher.weigh(mode.step, labelled)
            return weigher.weigh(mode.step, labelled, all_reduce_sum(losses.detach().clone()))
        case "representation":
            gram = representation_gram(worker, tasks)
            summed = all_reduce_sum(torch.cat([losses.detach().double()[None], gram]))
            return weigher.weigh(mode.step, labelled, summed[0], summed[1:])
        case _:
            assert_never(mode.weighting)


def weigh_by_products(
    worker: Worker, mode: StepMode, counts: GlobalCounts, losses: Tensor, products: Products | None
) -> Weighed:
    """The weights of a step that has every product.

    Args:
        losses: [T] summed over the workers.
    """
    assert products is not None, "a step without weights has one row per task"
    return worker.weigher.weigh(
        mode.step, counts.labelled > 0, losses, products.gram, products.layer_grams
    )


def opposes_a_task(
    worker: Worker, mode: StepMode, weighed: Weighed, products: Products | None
) -> Tensor | None:
    """[] bool: coefficients not made from these products would go against a task; None unless
    measured.

    A refresh measures the cached coefficients that it is about to replace.
    """
    if not mode.audits or products is None:
        return None
    cached = worker.weigher.cached[1]
    measured = cached if mode.weighting == "parameters" else weighed.weighting.coefficients
    return violates_non_conflict(products.gram, measured)


def products_of_tasks(
    worker: Worker,
    mode: StepMode,
    lookup: Lookup | None,
    rows: Tensor,
    at_shards: Sequence[ShardOutputGradients],
) -> Products | None:
    """Every product of two tasks' gradients; None where `rows` is one row for their combination.

    Args:
        rows: [T, P] of the body, summed over the workers.
        at_shards: the tasks' gradients of the shards' outputs; empty where nothing reads the
            products of the tables.
    """
    if not mode.row_per_task:
        return None
    layer_grams = None
    if mode.searches or "layer_grams" in worker.weigher.method.needs:
        layer_grams = _layer_grams(worker, rows)
        body_gram = layer_grams.sum(dim=0)
    else:
        body_gram = worker.operations.gram_matrix(rows)
    if not at_shards:
        return Products(body_gram, body_gram, layer_grams)
    if mode.searches:
        own_by_table = worker.products_by_table(lookup, at_shards)
    else:
        own_by_table = worker.table_products(lookup, at_shards)[None]
    # One sum for both parts, so that every worker has the same bits: the body's part is rank 0's,
    # the tables' part every worker's.
    of_body = body_gram if worker.context.rank == 0 else torch.zeros_like(body_gram)
    summed = all_reduce_sum(torch.cat([of_body[None], own_by_table]))
    gram = summed.sum(dim=0) if worker.tables_in_gram else summed[0]
    return Products(gram, body_gram, layer_grams, summed[1:] if mode.searches else None)


def _layer_grams(worker: Worker, rows: Tensor) -> Tensor:
    """[L, T, T] float64: products of the rows [T, P] in each layer; a body may share none."""
    grams = rows.new_zeros(0, len(rows), len(rows), dtype=torch.float64)
    columns = worker.model.shared.layer_columns.values()
    layers = [worker.operations.gram_matrix(rows[:, place])[None] for place in columns]
    return torch.cat([grams, *layers])


def conflicts_of_step(
    worker: Worker, mode: StepMode, products: Products | None
) -> PairCounts | None:
    """The pairs of tasks that conflict in each layer and table; None outside a search."""
    recon = worker.config.recon
    if not mode.searches or products is None or recon is None:
        return None
    grams = [g for g in (products.layer_grams, products.table_grams) if g is not None]
    return count_conflicts(torch.cat(grams), recon.threshold)


def representation_gram(worker: Worker, tasks: Sequence[TaskGradients]) -> Tensor:
    """[T, T] float64: this worker's products of the tasks' gradients at the representation.

    A part that is the pooled embeddings counts where the tables are in the Gram.
    """
    parts = list(zip(*(task.representation for task in tasks), strict=True))
    num_tasks = len(tasks)
    gram = torch.zeros(num_tasks, num_tasks, dtype=torch.float64, device=worker.context.device)
    for part, is_pooled in zip(parts, worker.model.ownership.pooled_parts, strict=True):
        known = [gradient for gradient in part if gradient is not None]
        if not known or (is_pooled and not worker.tables_in_gram):
            continue
        zero = torch.zeros_like(known[0])
        stacked = torch.stack([zero if gradient is None else gradient for gradient in part])
        gram += worker.operations.gram_matrix(stacked.flatten(start_dim=1))
    return gram
