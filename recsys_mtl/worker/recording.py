"""From what a step computed to its record.

T tasks.
"""

import torch
from torch import Tensor

from recsys_mtl.distributed.collectives import PendingSums
from recsys_mtl.distributed.sharding import Lookup
from recsys_mtl.gradients.combination import descent_cosines
from recsys_mtl.metrics.record import BYTE_KINDS
from recsys_mtl.worker.evidence import Products
from recsys_mtl.worker.shared_gradients import SharedUpdate
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.step_mode import StepMode, steps_until_next_rows
from recsys_mtl.worker.weighing import Weighed


def parameters_before(worker: Worker, mode: StepMode, products: Products | None) -> Tensor | None:
    """[P] The shared parameters as they are; None where the step does not measure how much
    they move.

    The last step of a log interval does, or the last that has one row of gradients per task.
    """
    if products is None:
        return None
    interval = worker.config.training.log_interval_steps
    compares = worker.weigher.method.compares_gradients
    until_next = 1 if mode.searches else steps_until_next_rows(worker.config.gradients, compares)
    is_last = mode.step // interval < (mode.step + until_next) // interval
    return worker.model.shared.vector.clone() if is_last else None


def applied_cosines(
    worker: Worker, update: SharedUpdate, products: Products | None, before: Tensor | None
) -> Tensor:
    """[T] float64: `descent_cosines` of what the body has moved by since `before`, else NaN."""
    if before is None or products is None:
        num_tasks = len(worker.config.task_names)
        device = worker.context.device
        return torch.full((num_tasks,), torch.nan, dtype=torch.float64, device=device)
    return descent_cosines(update.rows, products.body_gram, worker.model.shared.vector - before)


def gram_to_show(weighed: Weighed, products: Products | None) -> Tensor | None:
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
