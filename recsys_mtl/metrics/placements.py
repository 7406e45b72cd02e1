"""Where a logit stands among all negatives and all positives of a log that is on disk.

Two passes over the rows, whose counts add up over workers: the first finds bins of nearly equal
numbers of rows, the second counts each class in them. So scores are told apart as well when they
lie within 0.001 of each other, or a few of them far from the others.
"""

# n rows, M models, T tasks, K bins

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mtl.metrics.scored_rows import ScoredBlock

# The upper 16 bits of a float32: sign, exponent and 7 bits of the mantissa. A logit between 4 and 8
# shares them with logits within 1/32.
COARSE_BINS = 1 << 16
_LOWER_BITS = np.uint32(16)
FINE_BINS = 1 << 16
NUM_BINS = COARSE_BINS + FINE_BINS
"""K. Every coarse bin has one bin at least."""


def sortable(logits: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Returns integers in the order of the logits, equal where these are (-0.0 is 0.0).

    Args:
        logits: of any shape, finite.
    """
    bits = (logits + np.float32(0.0)).view(np.uint32)
    return np.where(bits >> np.uint32(31) == 1, ~bits, bits | np.uint32(1 << 31))


def comparable(block: ScoredBlock) -> NDArray[np.bool_]:
    """[n, T] Whether a row has a label, and a finite logit of every model."""
    return (block.weights > 0) & np.isfinite(block.logits).all(axis=1)


def coarse_counts(blocks: Iterable[ScoredBlock], num_models: int, num_tasks: int) -> Tensor:
    """Returns the comparable rows in each coarse bin: [M, T, 65536] int64."""
    counts = np.zeros((num_models, num_tasks, COARSE_BINS), np.int64)
    for block in blocks:
        kept = comparable(block)
        for model, task in np.ndindex(num_models, num_tasks):
            coarse = sortable(block.logits[kept[:, task], model, task]) >> _LOWER_BITS
            counts[model, task] += np.bincount(coarse, minlength=COARSE_BINS)
    return torch.from_numpy(counts)


class LogitBins:
    """Bins of about 1/65,536 of the rows each, or of equal logits.

    A coarse bin is cut into bins of equal width, as many as its share of the rows is of 65,536.
    The AUC that follows from them is within 5e-5 of scikit-learn's.

    Args:
        coarse: from `coarse_counts`, of all workers' rows.
    """

    def __init__(self, coarse: Tensor) -> None:
        rows = coarse.numpy()
        share = rows / np.maximum(rows.sum(axis=-1, keepdims=True), 1)
        self._parts = np.maximum(np.ceil(share * (FINE_BINS - 1)), 1).astype(np.uint32)
        self._first = np.cumsum(self._parts, axis=-1, dtype=np.uint32) - self._parts

    def of(self, logits: NDArray[np.float32], model: int, task: int) -> NDArray[np.uint32]:
        """[n] The bin of each logit [n], in the order of the logits."""
        place = sortable(logits)
        coarse, fine = place >> _LOWER_BITS, place & np.uint32(COARSE_BINS - 1)
        # At most 2^16 times 2^16 - 1: it fits into 32 bits.
        parts = fine * self._parts[model, task][coarse] >> _LOWER_BITS
        bins: NDArray[np.uint32] = self._first[model, task][coarse] + parts
        return bins

    def class_weights(self, blocks: Iterable[ScoredBlock]) -> Tensor:
        """Returns the summed weights of negatives and of positives by bin: [M, T, 2, K] float64."""
        num_models, num_tasks, _ = self._parts.shape
        totals = np.zeros((num_models, num_tasks, 2, NUM_BINS))
        for block in blocks:
            kept = comparable(block)
            for model, task in np.ndindex(num_models, num_tasks):
                rows = kept[:, task]
                place = self.of(block.logits[rows, model, task], model, task).astype(np.int64)
                place += NUM_BINS * block.labels[rows, task]
                counts = np.bincount(place, block.weights[rows, task], minlength=2 * NUM_BINS)
                totals[model, task] += counts.reshape(2, NUM_BINS)
        return torch.from_numpy(totals)


def placements(class_weights: Tensor) -> NDArray[np.float64]:
    """Returns, by bin, the share of the other class that a row of the bin is ranked right against.

    Its mean over the positives is the AUC, and so is its mean over the negatives (DeLong, DeLong
    and Clarke-Pearson 1988). Rows of one bin count half.

    Example: a negative in bin 0, one of each class in bin 1. The positive beats one negative and
    ties with the other: 3/4. The negatives lose to the positive and tie with it: 1 and 1/2.

    Args:
        class_weights: [M, T, 2, K] from `LogitBins.class_weights`, of all workers' rows.

    Returns:
        [M, T, 2, K]: first for a negative, then for a positive; NaN where the other class is empty.
    """
    negative, positive = np.moveaxis(class_weights.numpy(), 2, 0)
    below = np.cumsum(negative, axis=-1) - negative / 2
    above = positive.sum(axis=-1, keepdims=True) - np.cumsum(positive, axis=-1) + positive / 2
    with np.errstate(invalid="ignore"):
        return np.stack(
            (
                above / positive.sum(axis=-1, keepdims=True),
                below / negative.sum(axis=-1, keepdims=True),
            ),
            axis=2,
        )
