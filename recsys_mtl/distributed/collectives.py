"""Sums and broadcasts over all workers. Every worker must make the same calls in the same order."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

Made = TypeVar("Made")


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum `tensor` over the workers, in place."""
    dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
    return tensor


class PendingSums:
    """Sums over the workers that go on while this worker computes."""

    def __init__(self) -> None:
        self._works: list[dist.Work] = []
        self.bytes = 0
        """How many bytes the tensors added so far have."""

    def add(self, tensor: Tensor) -> Tensor:
        """Start summing `tensor` in place, and return it; it must not be read before `wait`."""
        work = dist.all_reduce(tensor, op=dist.ReduceOp.SUM, async_op=True)
        assert work is not None
        self._works.append(work)
        self.bytes += tensor.nbytes
        return tensor

    def wait(self) -> None:
        """Until all sums are there (on CUDA: until the stream has them queued)."""
        for work in self._works:
            work.wait()
        self._works.clear()


def broadcast_from_first(tensor: Tensor) -> Tensor:
    """Rank 0's `tensor` on every worker, in place."""
    dist.broadcast(tensor, src=0)
    return tensor


def gathered(own: Made) -> list[Made]:
    """What each worker gives here, in the order of ranks, on every worker."""
    everything: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everything, own)
    return everything


def gathered_rows(own: Tensor, device: torch.device) -> Tensor:
    """[W n, C] Every worker's `own` [n, C], in the order of ranks, on the CPU of every worker.

    Args:
        device: where this worker's tensors live, and over which it talks to others.
    """
    if dist.get_world_size() == 1:
        return own
    rows = own.new_empty(dist.get_world_size() * len(own), own.shape[1], device=device)
    dist.all_gather_into_tensor(rows, own.to(device))
    return rows.cpu()


def made_by_first(rank: int, make: Callable[[], Made]) -> Made:
    """What rank 0 makes, on every worker; what rank 0 raises, raised on every worker.

    Without this, an error on rank 0 would leave the others waiting for it.
    """
    box: list[Any] = [None, None]
    if rank == 0:
        try:
            box[0] = make()
        except Exception as error:  # raised below, on every worker
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    made, raised = box
    if raised is not None:
        raise raised
    return cast(Made, made)
