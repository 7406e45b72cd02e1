"""What is counted over all workers before a step: labels, rows, and wishes to stop."""

# T tasks, R reasons to reject a row

from typing import NamedTuple

import torch
from torch import Tensor

from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.distributed.collectives import all_reduce_sum


class GlobalCounts(NamedTuple):
    """The counts of one global batch, the same on every worker."""

    labelled: Tensor
    """[T] float32: rows with a known label of each task. A loss is the mean over them."""
    weights: Tensor
    """[T] float32: the sum of those rows' weights, by which the mean divides; `labelled` itself
    where no task has weights."""
    rows: Tensor
    """[1 + R] float32: rows, and those rejected by reason, in the order of `REJECT_REASONS`."""
    stop_votes: Tensor
    """[] float32: workers that were asked to end training."""


def count_globally(batch: ClickBatch, *, stop_asked: bool) -> GlobalCounts:
    """Sum over all workers, in one collective operation.

    float32 counts are exact up to 2^24 rows of a batch. Sums of weights are rounded once per worker
    and once per addition of two workers' sums, which moves a loss by 1e-7 of itself.
    """
    dtype = batch.counts.dtype
    labelled = batch.label_mask.sum(dim=0, dtype=dtype)
    vote = batch.counts.new_full((1,), float(stop_asked))
    parts = [labelled, batch.counts, vote]
    if batch.label_weights is not None:
        parts.append(batch.label_weights.sum(dim=0, dtype=torch.float64).to(dtype))
    counts = all_reduce_sum(torch.cat(parts))
    labels, rows, votes, *weights = torch.split(counts, [len(part) for part in parts])
    return GlobalCounts(labels, weights[0] if weights else labels, rows, votes[0])
