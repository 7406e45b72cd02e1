"""The gradients of what the tasks share: their rows, their products, and their combination.

B rows of this worker's batch, T tasks, P shared parameters of the body, E columns of all pooled
embeddings; O rows, one per task or one for the combination; L layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.distributed.collectives import PendingSums, all_reduce_sum
from recsys_mtl.distributed.sharding import Lookup, ShardOutputGradients, table_products
from recsys_mtl.gradients.combination import combined_norm, mix, vector_norm
from recsys_mtl.gradients.methods.contract import TaskWeighting
from recsys_mtl.model.forward import Forward, TaskGradients
from recsys_mtl.model.trunk import PartGradients
from recsys_mtl.worker.state import Worker


@dataclass(frozen=True, eq=False)
class SharedGradients:
    """The shared parameters' gradients of one step: of each task, or of the combination."""

    rows: Tensor
    """[O, P]: of the body, summed over the workers once the pending sums are there."""
    stems: list[Tensor]
    """O gradients of the trunk's stem, this worker's rows."""
    pooled: list[Tensor]
    """Gradients [B, E] of the pooled embeddings, one per row; empty where the tables' gradient can
    only be formed when the weights are known, and without tables."""


@dataclass(frozen=True, eq=False)
class Products:
    """Products of the tasks' gradients, the same on every worker."""

    gram: Tensor
    """[T, T] float64: of all parameters in the Gram."""
    body_gram: Tensor
    """[T, T] float64: of the body's shared parameters alone."""
    layer_grams: Tensor | None
    """[L, T, T] float64: the same layer by layer, where the method reads them."""


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
) -> SharedGradients:
    """From the representation down to the body's shared parameters and the pooled embeddings.

    Args:
        tasks: each task's gradients above the representation.
        sums: takes the rows, each as soon as it is written: one is summed over the workers while
            the next is computed.
        combine_by: weights that are known already, for one row of the combination; None for one row
            per task.
    """
    if combine_by is not None:
        return _combined_row(worker, forward, tasks, sums, combine_by)
    rows, stems = worker.shared_rows, []
    for task, row in zip(tasks, rows, strict=True):
        stems.append(_write_row(worker, forward, task, row))
        sums.add(row)
    covered = worker.tables is not None and worker.tables_in_gram
    pooled = [forward.trunk.pooled_gradient(stem) for stem in stems] if covered else []
    return SharedGradients(rows, stems, pooled)


def products_of_tasks(
    worker: Worker,
    lookup: Lookup | None,
    shared: SharedGradients,
    at_shards: Sequence[ShardOutputGradients],
) -> Products:
    """Every product of two tasks' gradients.

    Args:
        at_shards: the tasks' gradients of the shards' outputs; empty where the tables are not in
            the Gram.
    """
    layer_grams = None
    if "layer_grams" in worker.weigher.method.needs:
        columns = worker.shared.layer_columns.values()
        layers = [worker.operations.gram_matrix(shared.rows[:, place]) for place in columns]
        layer_grams = torch.stack(layers)
        body_gram = layer_grams.sum(dim=0)
    else:
        body_gram = worker.operations.gram_matrix(shared.rows)
    gram = body_gram
    if at_shards:
        assert worker.tables is not None
        assert lookup is not None
        touched = worker.tables.task_gradients(lookup, at_shards)
        own = table_products(touched, len(at_shards), gram.device)
        # One sum for both parts, so that every worker has the same bits: the body's part is rank
        # 0's, the tables' part every worker's.
        gram = all_reduce_sum(own + body_gram if worker.context.rank == 0 else own)
    return Products(gram, body_gram, layer_grams)


def representation_gram(worker: Worker, tasks: Sequence[TaskGradients]) -> Tensor:
    """[T, T] float64: this worker's products of the tasks' gradients at the representation.

    A part that is the pooled embeddings counts where the tables are in the Gram.
    """
    parts = list(zip(*(task.representation for task in tasks), strict=True))
    num_tasks = len(tasks)
    gram = torch.zeros(num_tasks, num_tasks, dtype=torch.float64, device=worker.context.device)
    for part, is_pooled in zip(parts, worker.ownership.pooled_parts, strict=True):
        known = [gradient for gradient in part if gradient is not None]
        if not known or (is_pooled and not worker.tables_in_gram):
            continue
        zero = torch.zeros_like(known[0])
        stacked = torch.stack([zero if gradient is None else gradient for gradient in part])
        gram += worker.operations.gram_matrix(stacked.flatten(start_dim=1))
    return gram


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
    if products is not None:
        coefficients = weighting.coefficients
        norm = combined_norm(products.gram, coefficients)
        if at_shards:
            tables = mix_shards(coefficients, at_shards)
        else:
            # A negative coefficient is right only for gradients that were in the Gram.
            stem = mix(weighting.weights, shared.stems)
            tables = to_shards(worker, lookup, forward.trunk.pooled_gradient(stem))
        return SharedUpdate(shared.rows, coefficients, tables, norm, norm.isfinite())
    tables = at_shards[0] if at_shards else None
    body_norm = vector_norm(shared.rows[0])
    one = torch.ones_like(body_norm)[None]
    if worker.config.training.gradient_clip_norm is None:
        unknown = torch.full_like(body_norm, torch.nan)
        return SharedUpdate(shared.rows, one, tables, unknown, body_norm.isfinite())
    norm = body_norm
    if tables is not None and worker.tables_in_gram:
        assert worker.tables is not None
        assert lookup is not None
        touched = worker.tables.task_gradients(lookup, [tables])
        tables_squared = all_reduce_sum(table_products(touched, 1, norm.device))[0, 0]
        norm = (norm.square() + tables_squared).sqrt()
    return SharedUpdate(shared.rows, one, tables, norm, norm.isfinite())


def to_shards(
    worker: Worker, lookup: Lookup | None, pooled_gradient: Tensor
) -> ShardOutputGradients | None:
    """Hand a gradient [B, E] of the pooled embeddings to the workers that hold the shards."""
    if worker.tables is None or lookup is None:
        return None
    return worker.tables.to_shards(lookup, pooled_gradient)


def mix_shards(
    coefficients: Tensor, gradients: Sequence[ShardOutputGradients]
) -> ShardOutputGradients:
    """The combination of several gradients of the shards' outputs."""
    return [mix(coefficients, outputs) for outputs in zip(*gradients, strict=True)]


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
    if worker.tables is None:
        return SharedGradients(row[None], [stem], [])
    if not worker.tables_in_gram:
        # Outside the Gram a negative coefficient would be wrong.
        stem = forward.trunk.backward(_mix_parts(weighting.weights, tasks), None)
    return SharedGradients(row[None], [stem], [forward.trunk.pooled_gradient(stem)])


def _write_row(worker: Worker, forward: Forward, task: TaskGradients, row: Tensor) -> Tensor:
    """Overwrite `row` [P] with one loss's gradient of the shared parameters; returns the stem's."""
    views, ownership = worker.shared.views(row), forward.ownership
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
        return mix(coefficients, known)
    return mix(torch.stack([coefficients[task] for task in tasks]), known)
