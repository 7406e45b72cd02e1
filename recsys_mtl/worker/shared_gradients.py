"""The gradients of what the tasks share, and the one combination that moves it.

B rows of this worker's batch, T tasks, P shared parameters of the body, E columns of all pooled
embeddings; O rows, one per task or one for the combination.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.distributed.collectives import PendingSums, all_reduce_sum
from recsys_mtl.distributed.sharding import Lookup, ShardOutputGradients
from recsys_mtl.gradients.combination import combined_norm, vector_norm, weighted_sum
from recsys_mtl.gradients.methods.contract import TaskWeighting
from recsys_mtl.model.forward import Forward, TaskGradients
from recsys_mtl.model.trunk import PartGradients
from recsys_mtl.worker.evidence import Products
from recsys_mtl.worker.state import Worker


@dataclass(frozen=True, eq=False)
class SharedGradients:
    """The shared parameters' gradients of one step: of each task, or of the combination."""

    rows: Tensor
    """[O, P]: of the body, summed over the workers once the pending sums are there."""
    stems: list[Tensor]
    """O gradients of the trunk's stem, this worker's rows."""
    pooled: list[Tensor]
    """Gradients [B, E] of the pooled embeddings, one per row; empty where nothing reads the tables'
    gradients task by task, so that their stems are combined first, and without tables."""


@dataclass(frozen=True, eq=False)
class SharedUpdate:
    """What the shared parameters move along, before clipping."""

    rows: Tensor
    """[O, P]"""
    coefficients: Tensor
    """[O] float64: the body moves along their combination of `rows`."""
    tables: ShardOutputGradients | None
    """The tables' gradient where their shards lie; None without tables."""
    norm: Tensor
    """[] float64: of the combined gradient of all parameters in the Gram; NaN for one combined row
    that is not to be clipped."""
    finite: Tensor
    """[] bool: it may be applied."""


def backward_through_trunk(
    worker: Worker,
    forward: Forward,
    tasks: Sequence[TaskGradients],
    sums: PendingSums,
    combine_by: TaskWeighting | None,
    *,
    tables_apart: bool = False,
) -> SharedGradients:
    """From the representation down to the body's shared parameters and the pooled embeddings.

    Args:
        tasks: each task's gradients above the representation.
        sums: takes the rows, each as soon as it is written: one is summed over the workers while
            the next is computed.
        combine_by: weights that are known already, for one row of the combination; None for one row
            per task.
        tables_apart: with one row per task, take the tables' gradients task by task, too, where
            they are outside the Gram.
    """
    if combine_by is not None:
        return _combined_row(worker, forward, tasks, sums, combine_by)
    rows, stems = worker.shared_rows, []
    for task, row in zip(tasks, rows, strict=True):
        stems.append(_write_row(worker, forward, task, row))
        sums.add(row)
    covered = worker.model.tables is not None and (worker.tables_in_gram or tables_apart)
    pooled = [forward.trunk.pooled_gradient(stem) for stem in stems] if covered else []
    return SharedGradients(rows, stems, pooled)


def combine(
    worker: Worker,
    forward: Forward,
    lookup: Lookup | None,
    shared: SharedGradients,
    at_shards: Sequence[ShardOutputGradients],
    weighting: TaskWeighting,
    products: Products | None,
) -> SharedUpdate:
    """The combination that body and tables move along.

    Args:
        at_shards: one gradient of the shards' outputs per row of `shared.pooled`.
        products: of the tasks' rows; None where there is one combined row.
    """
    if products is None:
        return _update_of_combined_row(worker, lookup, shared, at_shards)
    coefficients = weighting.coefficients
    norm = combined_norm(products.gram, coefficients)
    # A negative coefficient is right only for gradients that were in the Gram.
    of_tables = coefficients if worker.tables_in_gram else weighting.weights
    tables = _mix_shards(of_tables, at_shards) if at_shards else None
    if tables is None and lookup is not None:
        stem = weighted_sum(of_tables, shared.stems)
        (tables,) = worker.to_shards(lookup, [forward.trunk.pooled_gradient(stem)])
    return SharedUpdate(shared.rows, coefficients, tables, norm, norm.isfinite())


def _update_of_combined_row(
    worker: Worker,
    lookup: Lookup | None,
    shared: SharedGradients,
    at_shards: Sequence[ShardOutputGradients],
) -> SharedUpdate:
    """The one row as it is. Its norm costs a product of the tables: it is taken to clip alone."""
    tables = at_shards[0] if at_shards else None
    norm = vector_norm(shared.rows[0])
    one = torch.ones_like(norm)[None]
    if worker.config.training.gradient_clip_norm is None:
        unknown = torch.full_like(norm, torch.nan)
        return SharedUpdate(shared.rows, one, tables, unknown, norm.isfinite())
    if at_shards and worker.tables_in_gram:
        tables_squared = all_reduce_sum(worker.table_products(lookup, at_shards))[0, 0]
        norm = (norm.square() + tables_squared).sqrt()
    return SharedUpdate(shared.rows, one, tables, norm, norm.isfinite())


def _mix_shards(
    coefficients: Tensor, gradients: Sequence[ShardOutputGradients]
) -> ShardOutputGradients:
    """The combination of several gradients of the shards' outputs."""
    return [weighted_sum(coefficients, outputs) for outputs in zip(*gradients, strict=True)]


def _combined_row(
    worker: Worker,
    forward: Forward,
    tasks: Sequence[TaskGradients],
    sums: PendingSums,
    weighting: TaskWeighting,
) -> SharedGradients:
    """One backward of sum_i c_i L_i."""
    row = worker.shared_rows[0]
    combined = TaskGradients(
        representation=_mix_parts(weighting.coefficients, tasks),
        task_specific={},
        shared_above=_mix_above(weighting.coefficients, tasks),
    )
    stem = _write_row(worker, forward, combined, row)
    sums.add(row)
    if worker.model.tables is None:
        return SharedGradients(row[None], [stem], [])
    if not worker.tables_in_gram:
        # Outside the Gram a negative coefficient would be wrong.
        stem = forward.trunk.backward(_mix_parts(weighting.weights, tasks), None)
    return SharedGradients(row[None], [stem], [forward.trunk.pooled_gradient(stem)])


def _write_row(worker: Worker, forward: Forward, task: TaskGradients, row: Tensor) -> Tensor:
    """Overwrite `row` [P] with one loss's gradient of the shared parameters; returns the stem's."""
    views, ownership = worker.model.shared.views(row), forward.ownership
    below = {name: views[name] for name in ownership.trunk}
    stem = forward.trunk.backward(task.representation, below)
    for name in ownership.above:
        gradient, place = task.shared_above.get(name), views[name]
        if name not in below:
            place.zero_()
        if gradient is not None:
            place.add_(gradient)
    return stem


def _mix_parts(coefficients: Tensor, tasks: Sequence[TaskGradients]) -> PartGradients:
    """The combination of the tasks' gradients of each part of the representation."""
    parts = zip(*(task.representation for task in tasks), strict=True)
    return tuple(_mix_known(coefficients, part) for part in parts)


def _mix_above(coefficients: Tensor, tasks: Sequence[TaskGradients]) -> dict[str, Tensor]:
    """The combination of the tasks' gradients of the shared parameters above."""
    names = dict.fromkeys(name for task in tasks for name in task.shared_above)
    mixed = {
        name: _mix_known(coefficients, [task.shared_above.get(name) for task in tasks])
        for name in names
    }
    return {name: gradient for name, gradient in mixed.items() if gradient is not None}


def _mix_known(coefficients: Tensor, gradients: Sequence[Tensor | None]) -> Tensor | None:
    """sum_i c_i g_i over the tasks that have a gradient; None where none has."""
    tasks = [task for task, gradient in enumerate(gradients) if gradient is not None]
    known = [gradient for gradient in gradients if gradient is not None]
    if not known:
        return None
    if len(tasks) == len(gradients):
        return weighted_sum(coefficients, known)
    return weighted_sum(torch.stack([coefficients[task] for task in tasks]), known)
