"""What the shared parameters of one step move by: one backward a task, or one for all.

B rows of this worker's batch, T tasks, H columns of the representation, P parameters of the
bottom, E columns of all pooled embeddings; O is T or 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.distributed.collectives import PendingSums, all_reduce_sum
from recsys_mtl.distributed.sharding import Lookup, OwnerGradient, table_products
from recsys_mtl.gradients.combination import clip_factor, combined_norm, mix, vector_norm
from recsys_mtl.gradients.step_kinds import (
    Decision,
    audits,
    covers_tables,
    decide,
    opposes,
    step_kind,
    without_products,
)
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.model.tape import Tape
from recsys_mtl.worker.state import Worker


@dataclass(frozen=True, eq=False)
class Backward:
    """One step's forward and its way back: what the updates below are made from."""

    worker: Worker
    tape: Tape
    lookup: Lookup | None
    """None for a model without tables."""
    deltas: Tensor
    """[T, B, H] gradient of each task's loss for the representation."""
    sums: PendingSums
    """Sums over the workers that go on; waited for here."""
    clock: PhaseClock


@dataclass(frozen=True, eq=False)
class SharedUpdate:
    """The combined gradient of bottom and tables, and what is known of the tasks in it."""

    gradients: Tensor
    """[O, P] of the bottom, summed over the workers."""
    coefficients: Tensor
    """[O] float64: the bottom's update is their combination of `gradients`. Clipping included."""
    tables: OwnerGradient | None
    """The tables' update, at their owners, clipped by the same factor."""
    decision: Decision
    norm: Tensor
    """[] float64: of the combined gradient of all parameters that products cover, clipped; NaN
    where it was not needed."""
    finite: Tensor
    """[] bool: it may be applied."""
    bottom_gram: Tensor | None
    """[T, T] float64: the bottom's part of the Gram; None where `gradients` has no row a task."""
    opposes: Tensor | None
    """[] bool: held or representation-level coefficients would go against a task here; None where
    that was not measured."""


@dataclass(frozen=True, eq=False)
class _TaskGradients:
    """Every task's gradient of the shared parameters."""

    bottom: Tensor
    """[T, P] summed over the workers."""
    first: list[Tensor]
    """[T] of [B, U]: of the first layer's pre-activation, this worker's rows."""
    owners: list[OwnerGradient]
    """[T] of the tables, at their owners; empty where products do not cover them."""
    bottom_gram: Tensor
    """[T, T] float64: of `bottom`."""
    gram: Tensor
    """[T, T] float64: of all parameters that products cover."""


def shared_update(back: Backward, step: int) -> SharedUpdate:
    """The update of `step`, exact or cheaper, as the method has it."""
    method, held, operations = back.worker.config.method, back.worker.held, back.worker.operations
    match step_kind(method, step):
        case "exact":
            tasks = _task_gradients(back)
            decision = decide(method, tasks.gram, operations)
            # Steps before this one used what was held: would this one still do?
            was_held = step > 0 and step_kind(method, step - 1) == "held"
            against = opposes(tasks.gram, held[1]) if was_held else None
            # Without products, or without a label of a task in this batch, there is nothing new.
            known = decision.finite & decision.coefficients.any() & (tasks.gram.diagonal() > 0)
            newest = torch.stack([decision.weights, decision.coefficients])
            held.copy_(torch.where(known, newest, held))
            return _of_task_gradients(back, tasks, decision, against)
        case "representation":
            gram = all_reduce_sum(operations.gram_matrix(back.deltas.flatten(1)))
            decision = decide(method, gram, operations)
            against = None
            if audits(method, step):
                against = opposes(_task_gradients(back).gram, decision.coefficients)
            return _of_one_backward(back, decision, against)
        case "held" | "uniform":
            return _of_one_backward(back, without_products(*held.clone()), None)


def _task_gradients(back: Backward) -> _TaskGradients:
    """One backward a task; the sum of one over the workers runs while the next is computed."""
    worker, tape = back.worker, back.tape
    bottom, first = worker.shared_gradients, []
    for delta, row in zip(back.deltas, bottom, strict=True):
        first.append(tape.through_bottom(delta, worker.shared.views(row)))
        back.sums.add(row)
    with_tables = back.lookup is not None and covers_tables(worker.config.method)
    inputs = [_to_embeddings(back, gradient) for gradient in first] if with_tables else []
    back.clock.lap("backward")
    owners = [_to_owners(back, gradient) for gradient in inputs]
    back.sums.wait()
    back.clock.lap("communication")
    bottom_gram = worker.operations.gram_matrix(bottom)
    gram = bottom_gram + _table_products(back, owners) if with_tables else bottom_gram
    return _TaskGradients(bottom, first, owners, bottom_gram, gram)


def _of_task_gradients(
    back: Backward, tasks: _TaskGradients, decision: Decision, against: Tensor | None
) -> SharedUpdate:
    """The combination of the tasks' gradients."""
    norm = combined_norm(tasks.gram, decision.coefficients)
    clip = clip_factor(norm, back.worker.config.training.gradient_clip_norm)
    tables = None
    if tasks.owners:
        tables = _mix_owners(clip * decision.coefficients, tasks.owners)
    elif back.lookup is not None:
        # A negative coefficient is right only for gradients that were in the Gram.
        first = mix(clip * decision.weights, tasks.first)
        tables = _to_owners(back, _to_embeddings(back, first))
    return SharedUpdate(
        gradients=tasks.bottom,
        coefficients=clip * decision.coefficients,
        tables=tables,
        decision=decision,
        norm=clip * norm,
        finite=decision.finite,
        bottom_gram=tasks.bottom_gram,
        opposes=against,
    )


def _of_one_backward(back: Backward, decision: Decision, against: Tensor | None) -> SharedUpdate:
    """The gradient of sum_i c_i L_i for bottom and tables; no products of parameters."""
    worker, tape = back.worker, back.tape
    with_tables = back.lookup is not None and covers_tables(worker.config.method)
    row = worker.shared_gradients[0]
    first = tape.through_bottom(mix(decision.coefficients, back.deltas), worker.shared.views(row))
    back.sums.add(row)
    tables = None
    if back.lookup is not None:
        if not with_tables:
            first = tape.through_bottom(mix(decision.weights, back.deltas), None)
        inputs = _to_embeddings(back, first)
        back.clock.lap("backward")
        tables = _to_owners(back, inputs)
    back.sums.wait()
    back.clock.lap("communication")
    bottom_norm = vector_norm(row)
    norm, clip = torch.full_like(bottom_norm, torch.nan), torch.ones_like(bottom_norm)
    finite = decision.finite & bottom_norm.isfinite()
    largest_norm = worker.config.training.gradient_clip_norm
    if largest_norm is not None:
        norm = bottom_norm
        if tables is not None and with_tables:
            norm = (norm.square() + _table_products(back, [tables])[0, 0]).sqrt()
        finite = finite & norm.isfinite()
        clip = clip_factor(norm, largest_norm)
        tables = None if tables is None else _mix_owners(clip[None], [tables])
    return SharedUpdate(
        gradients=row[None],
        coefficients=clip[None],
        tables=tables,
        decision=decision,
        norm=clip * norm,
        finite=finite,
        bottom_gram=None,
        opposes=against,
    )


def _to_embeddings(back: Backward, first: Tensor) -> Tensor:
    """[B, E] from a gradient [B, U] for the first layer."""
    assert back.lookup is not None
    return back.tape.to_embeddings(first, back.lookup.pooled.shape[1])


def _to_owners(back: Backward, inputs: Tensor) -> OwnerGradient:
    assert back.worker.tables is not None
    assert back.lookup is not None
    return back.worker.tables.to_owners(back.lookup, inputs)


def _table_products(back: Backward, owners: Sequence[OwnerGradient]) -> Tensor:
    assert back.worker.tables is not None
    assert back.lookup is not None
    touched = back.worker.tables.task_gradients(back.lookup, owners)
    return table_products(touched, len(owners), back.deltas.device)


def _mix_owners(coefficients: Tensor, owners: Sequence[OwnerGradient]) -> OwnerGradient:
    return [mix(coefficients, outputs) for outputs in zip(*owners, strict=True)]
