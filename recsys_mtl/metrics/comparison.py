"""Comparing trained models by their scores: differences, ranks, and the trade-offs worth having.

A score is better when it is higher, as AUC is. Pure functions on numbers: nothing here knows where
a score comes from. A score that is not known is NaN, and what follows from it is NaN, too.
"""

# A arms (models that are compared), T tasks, N pairs

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PairedDifference:
    """How much higher one arm scores than another, over runs that differ in nothing else."""

    mean: float
    lower: float
    """Lower end of the mean's 95 % interval; NaN, as the upper one, with fewer than 2 pairs."""
    upper: float
    p_value: float
    """Two-sided, of no difference; NaN with fewer than 2 pairs."""
    pairs: int


def paired_difference(scores: Sequence[float], others: Sequence[float]) -> PairedDifference:
    """Compare two arms by Student's t of the differences of their pairs.

    Scores 3, 4, 5 beside 1, 3, 2 differ by 2, 1, 3: by 2 in the mean, with a standard error of
    1 / sqrt(3), so the interval with 2 degrees of freedom is 2 - 2.484 to 2 + 2.484.

    Args:
        scores: [N], one per seed.
        others: [N], of the other arm, by the same seeds in the same order.

    Returns:
        The difference `scores` - `others`. Pairs of which a score is NaN are left out. Differences
        that are all alike have no scatter: their interval is a point, and the p-value is 0, or 1
        where they are 0.

    Raises:
        ValueError: the series are not equally long.
    """
    if len(scores) != len(others):
        raise ValueError(
            f"{len(scores)} scores cannot be paired with {len(others)}; give both, in the same "
            "order of seeds"
        )
    differences = np.asarray(scores, np.float64) - np.asarray(others, np.float64)
    differences = differences[~np.isnan(differences)]
    pairs = len(differences)
    mean = float(differences.mean()) if pairs else math.nan
    if pairs < 2:
        return PairedDifference(mean, math.nan, math.nan, math.nan, pairs)
    error = float(differences.std(ddof=1)) / math.sqrt(pairs)
    half_width = float(stdtrit(pairs - 1, 0.975)) * error
    if error == 0.0:
        p_value = 0.0 if mean else 1.0
    else:
        p_value = 2 * float(stdtr(pairs - 1, -abs(mean) / error))
    return PairedDifference(mean, mean - half_width, mean + half_width, p_value, pairs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several comparisons, so that all of them together err in 5 % at 0.05.

    The p-values 0.01, 0.04 and 0.03 become 0.03, 0.06 and 0.06: the smallest is taken times 3, the
    next times 2, the largest times 1, and none may be below one before it.

    Args:
        p_values: one per comparison. One that is NaN stays NaN and counts as a comparison.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    adjusted, largest = [math.nan] * len(p_values), 0.0
    known = [place for place, p in enumerate(p_values) if not math.isnan(p)]
    for rank, place in enumerate(sorted(known, key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def delta_m(scores: Sequence[float], baseline: Sequence[float]) -> float:
    """Return by how many percent an arm is behind the baseline, in the mean over tasks.

    Below 0 the arm is better. Scores 0.72 and 0.81 beside 0.80 and 0.90 are 10 % behind.

    Args:
        scores: [T]
        baseline: [T], of the same tasks, above 0; of single-task models in the papers.

    Source: Maninis et al., "Attentive single-tasking of multiple tasks", CVPR 2019.
    """
    ours, theirs = np.asarray(scores, np.float64), np.asarray(baseline, np.float64)
    return float(100 * ((theirs - ours) / theirs).mean())


def mean_ranks(scores: Sequence[Sequence[float]]) -> list[float]:
    """Return each arm's place among all arms, 1 for the best, in the mean over tasks.

    Equal scores share their places: 0.8, 0.7, 0.7 have the ranks 1, 2.5, 2.5.

    Args:
        scores: [A, T]

    Returns:
        [A]; NaN for an arm without a score in some task, which is no rival to the others there.
    """
    if not scores:
        return []
    table = np.asarray(scores, np.float64)
    better = (table[None, :, :] > table[:, None, :]).sum(axis=1)
    equal = (table[None, :, :] == table[:, None, :]).sum(axis=1)  # with the arm itself
    ranks = np.where(np.isnan(table), np.nan, better + (equal + 1) / 2)
    return [float(rank) for rank in ranks.mean(axis=1)]


def pareto_set(scores: Sequence[Sequence[float]]) -> list[bool]:
    """Return which arms no other arm beats.

    An arm beats another where it scores at least as high in every task and higher in one. Of
    (0.8, 0.6), (0.7, 0.7) and (0.7, 0.6) the first two are in the set.

    Args:
        scores: [A, T]

    Returns:
        [A]; False for an arm without a score in some task, which beats none, either.
    """
    table = np.asarray(scores, np.float64)
    return [
        not np.isnan(ours).any()
        and not any(bool((other >= ours).all() and (other > ours).any()) for other in table)
        for ours in table
    ]
