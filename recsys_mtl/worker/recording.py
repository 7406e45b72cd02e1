"""From what a step computed to its record.

T tasks, P shared parameters of the body.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.distributed.collectives import PendingSums
from recsys_mtl.distributed.sharding import Lookup
from recsys_mtl.gradients.combination import descent_cosines
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.metrics.record import BYTE_KINDS, StepRecord
from recsys_mtl.worker.counts import GlobalCounts
from recsys_mtl.worker.evidence import Products, conflicts_of_step, opposes_a_task
from recsys_mtl.worker.shared_gradients import SharedUpdate
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.step_mode import StepMode, steps_until_next_rows
from recsys_mtl.worker.weighing import Weighed


@dataclass(frozen=True, eq=False)
class MeasuredBefore:
    """What a step knows before it moves anything, as far as its record needs it."""

    mode: StepMode
    weighed: Weighed
    products: Products | None
    """None where there is one row of gradients for the tasks' combination."""
    opposes: Tensor | None
    """[] bool: see `opposes_a_task`, which reads the cached coefficients before they change."""
    parameters: Tensor | None
    """[P] The shared parameters as they are; None where the step does not measure how much they
    move."""


def measured_before(
    worker: Worker, mode: StepMode, weighed: Weighed, products: Products | None
) -> MeasuredBefore:
    """Measure what the step is about to overwrite."""
    opposes = opposes_a_task(worker, mode, weighed, products)
    parameters = None
    if products is not None and _measures_movement(worker, mode):
        parameters = worker.model.shared.vector.clone()
    return MeasuredBefore(mode, weighed, products, opposes, parameters)


def _measures_movement(worker: Worker, mode: StepMode) -> bool:
    """Whether this is the last step of a log interval, or the last that has one row per task."""
    interval = worker.config.training.log_interval_steps
    compares = worker.weigher.method.compares_gradients
    until_next = 1 if mode.searches else steps_until_next_rows(worker.config.gradients, compares)
    return mode.step // interval < (mode.step + until_next) // interval


def record_of_step(
    worker: Worker,
    counts: GlobalCounts,
    losses: Tensor,
    before: MeasuredBefore,
    update: SharedUpdate,
    *,
    clip: Tensor,
    skipped: Tensor,
    clock: PhaseClock,
    sent: Mapping[str, int],
) -> StepRecord:
    """What to remember of a step that has moved everything.

    Args:
        losses: [T] summed over the workers, with the tasks' loss_weight.
        clip: [] what the update was multiplied by.
        skipped: [] bool: something was not finite, and nothing moved.
        clock: of the step, with all its laps.
        sent: as `bytes_sent` returns it.
    """
    mode, weighed, products = before.mode, before.weighed, before.products
    return StepRecord(
        losses=losses / worker.loss_weights,
        labelled=counts.labelled,
        weighting=weighed.weighting,
        gram=_gram_to_show(weighed, products),
        skipped=skipped,
        opposes=before.opposes,
        conflicts=conflicts_of_step(worker, mode, products),
        update_norm=clip * update.norm,
        learning_rate_factor=worker.learning_rate_factor(mode.step),
        applied=_applied_cosines(worker, update, before),
        rows=counts.rows,
        seconds=clock.seconds,
        bytes_sent=sent,
    )


def _applied_cosines(worker: Worker, update: SharedUpdate, before: MeasuredBefore) -> Tensor:
    """[T] float64: `descent_cosines` of what the body has moved by; NaN where not measured."""
    if before.parameters is None or before.products is None:
        num_tasks = len(worker.config.task_names)
        device = worker.context.device
        return torch.full((num_tasks,), torch.nan, dtype=torch.float64, device=device)
    moved = worker.model.shared.vector - before.parameters
    return descent_cosines(update.rows, before.products.body_gram, moved)


def _gram_to_show(weighed: Weighed, products: Products | None) -> Tensor | None:
    """[T, T] float64: the products that the method read, or else those that a search took."""
    if weighed.gram is None and products is not None:
        return products.gram
    return weighed.gram


def bytes_sent(
    worker: Worker, lookup: Lookup | None, sums: PendingSums, table_exchanges: int
) -> dict[str, int]:
    """By kind, what this worker handed to collective operations.

    Args:
        table_exchanges: gradients of the pooled embeddings that were handed to the shards.
    """
    sent = dict.fromkeys(BYTE_KINDS, 0)
    if worker.context.world_size > 1:
        sent["dense_gradients"] = sums.bytes
    if worker.model.tables is not None and lookup is not None:
        gradient = worker.model.tables.gradient_bytes(len(lookup.pooled))
        sent |= {**lookup.bytes_sent, "table_gradients": table_exchanges * gradient}
    return sent
