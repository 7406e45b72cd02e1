"""How far the difference of two models' AUC would scatter over other logs of as many groups.

The rows of one user resemble each other, so whole groups are drawn, not rows. In a Poisson
bootstrap each group counts Poisson(1) times in each replicate, whatever the others do, so one pass
over the rows in any order, on any number of workers, serves all replicates (Chamandy et al.,
"Estimating Uncertainty for Massive Data Streams", 2012). A replicate's AUC is linearised: it is the
mean placement of the replicate's positives among the log's negatives, plus that of its negatives
among the log's positives, less the AUC. What that leaves out, how the two drawn classes meet, is
smaller by the root of the rows.
"""

# n rows, G groups, T tasks, R replicates

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mtl.data.ids import finalised
from recsys_mtl.metrics.placements import LogitBins, coarse_counts, comparable, placements
from recsys_mtl.metrics.scored_rows import ScoredBlock

REPLICATES = 512
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's increment
# Replicates by groups, in float64, that are drawn at a time: 16 MiB.
_GROUPS_AT_A_TIME = 4_096


def _poisson_quantiles() -> NDArray[np.float64]:
    """[65536] The Poisson(1) count of each 16-bit number: 0 for the lowest 24,109, and so on."""
    probability, cumulated = np.exp(-1.0), [0.0]
    for count in range(1, 12):
        cumulated.append(cumulated[-1] + probability)
        probability /= count
    middles = (np.arange(1 << 16) + 0.5) / (1 << 16)
    return np.searchsorted(cumulated, middles, side="right").astype(np.float64) - 1


_POISSON = _poisson_quantiles()


def poisson_counts(keys: NDArray[np.uint64], seed: int, replicates: int) -> NDArray[np.float64]:
    """Returns how often each group counts in each replicate: [R, G], Poisson(1).

    It follows from key, seed and replicate alone: 16 bits of a splitmix64 generator that starts at
    the key (Steele, Lea and Flood 2014).

    Args:
        keys: [G], well-mixed bits.
        seed: another one gives other counts.
        replicates: R, a multiple of 4.
    """
    start = keys ^ finalised(np.array([seed], np.uint64) + _GOLDEN)
    steps = np.arange(1, replicates // 4 + 1, dtype=np.uint64) * _GOLDEN
    bits = finalised(steps[:, None] + start[None, :])
    numbers = bits[:, :, None].view(np.uint16)
    return _POISSON[numbers.transpose(0, 2, 1).reshape(replicates, len(keys))]


def drop_sums(
    blocks: Callable[[], Iterable[ScoredBlock]],
    num_tasks: int,
    *,
    seed: int,
    replicates: int = REPLICATES,
    reduce: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> tuple[Tensor, Tensor]:
    """Returns the sums from which the drop in AUC and its scatter follow; see `judge`.

    Args:
        blocks: called three times, it gives this worker's rows, each group whole in one block, with
            the scores of the model to be judged and of the one to compare with: `pairs` of two
            spills, or `ScoredRows.partitions` of one that holds both. Their keys are what is drawn.
        num_tasks: T.
        seed: of the replicates.
        replicates: R, a multiple of 4.
        reduce: adds a tensor up over all workers; it is called by each of them four times.

    Returns:
        [R + 1, T, 4] float64, the log itself first and then the replicates: of the positives the
        summed drop in placement and weight, and the same of the negatives. And [T, 8] float64
        counts, in the order of `Counts`.

    Raises:
        UserError: see `pairs` and `ScoredRows.partitions`.
    """
    bins = LogitBins(reduce(coarse_counts(blocks(), 2, num_tasks)))
    place = placements(reduce(bins.class_weights(blocks())))
    sums = np.zeros((replicates + 1, num_tasks, 4))
    counts = np.zeros((num_tasks, 8))
    for block in blocks():
        keys, groups = np.unique(block.keys, return_inverse=True)
        of_groups = _sums_of_groups(block, groups, len(keys), bins, place)
        counts += _counts(block, of_groups)
        sums[0] += of_groups.sum(axis=0)
        for some in _slices(len(keys), _GROUPS_AT_A_TIME):
            drawn = poisson_counts(keys[some], seed, replicates)
            flat = of_groups[some].reshape(drawn.shape[1], -1)
            sums[1:] += (drawn @ flat).reshape(replicates, num_tasks, 4)
    return reduce(torch.from_numpy(sums)), reduce(torch.from_numpy(counts))


def _sums_of_groups(
    block: ScoredBlock,
    groups: NDArray[np.intp],
    num_groups: int,
    bins: LogitBins,
    place: NDArray[np.float64],
) -> NDArray[np.float64]:
    """[G, T, 4] Each group's part of the sums of `drop_sums`."""
    num_tasks = block.labels.shape[1]
    sums = np.zeros((num_groups, num_tasks, 4))
    for task, kept in enumerate(comparable(block).T):
        labels, weights = block.labels[kept, task].astype(np.intp), block.weights[kept, task]
        new, other = (
            place[model, task][labels, bins.of(block.logits[kept, model, task], model, task)]
            for model in range(2)
        )
        # A task of one class has no placements, and no drop.
        drop = np.nan_to_num(other - new)
        for label in range(2):
            of_class = labels == label
            members, weight = groups[kept][of_class], weights[of_class].astype(np.float64)
            first = 2 * (1 - label)
            drops = np.bincount(members, weight * drop[of_class], minlength=num_groups)
            sums[:, task, first] = drops
            sums[:, task, first + 1] = np.bincount(members, weight, minlength=num_groups)
    return sums


def _counts(block: ScoredBlock, of_groups: NDArray[np.float64]) -> NDArray[np.float64]:
    """[T, 8] The block's part of `Counts`, whose meanings stand there."""
    labelled, finite = block.weights > 0, np.isfinite(block.logits)
    differs = block.logits[:, 0] != block.logits[:, 1]
    positive, negative = of_groups[..., 1], of_groups[..., 3]
    return np.stack(
        [
            np.full(labelled.shape[1], len(labelled)),
            (labelled & differs).sum(axis=0),
            (labelled & ~finite[:, 0]).sum(axis=0),
            (labelled & ~finite[:, 1]).sum(axis=0),
            (positive > 0).sum(axis=0),
            (positive**2).sum(axis=0),
            (negative > 0).sum(axis=0),
            (negative**2).sum(axis=0),
        ],
        axis=1,
    ).astype(np.float64)


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(first, first + size) for first in range(0, length, size))
