"""GAUC: the AUC inside each group, averaged with the groups' impressions as weights.

A recommendation list ranks items for one user. AUC over all rows also rewards a model that knows
which users buy at all, which no ranking can use; GAUC compares the rows of one user alone.

Source: Zhu et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, Eq. 6-7.
"""

# n rows, M models, T tasks

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mtl.metrics.placements import sortable
from recsys_mtl.metrics.scored_rows import ScoredBlock, ScoredRows


@dataclass(frozen=True)
class GroupAuc:
    """One task's AUC inside groups."""

    gauc: float
    """NaN when no group has both a positive and a negative row."""
    impressions: float
    """The weights of the rows in groups that count: their number, when rows have no weights."""
    groups: int
    """Groups with both a positive and a negative row."""
    groups_of_one_class: int
    """Groups left out, since they have no AUC."""
    rows_of_one_class: int
    """Labelled rows in the groups left out."""
    not_finite: int
    """Labelled rows left out, since their logit is NaN or infinite."""


def group_auc_sums(rows: ScoredRows, model: int = 0) -> Tensor:
    """Returns the sums from which GAUC follows. Sums of disjoint sets of groups may be added.

    Args:
        rows: with the group of each as its key.
        model: whose scores, of the M.

    Returns:
        [T, 6] float64: the sum of AUC times impressions, then the five counts of `GroupAuc`.

    Raises:
        UserError: see `ScoredRows.partitions`.
    """
    sums = np.zeros((rows.num_tasks, 6))
    for block in rows.partitions():
        for task in range(rows.num_tasks):
            sums[task] += _sums_of_task(block, model, task)
    return torch.from_numpy(sums)


def summarise_group_auc(sums: Tensor) -> list[GroupAuc]:
    """Turns sums of `group_auc_sums`, or a sum of such sums, into GAUC: one per task."""
    return [
        GroupAuc(
            wins / impressions if impressions > 0 else float("nan"),
            impressions,
            *(int(count) for count in counts),
        )
        for wins, impressions, *counts in sums.tolist()
    ]


def auc_by_group(
    groups: NDArray[np.integer],
    logits: NDArray[np.float32],
    labels: NDArray[np.bool_],
    weights: NDArray[np.floating],
) -> "AucByGroup":
    """Computes the exact AUC of each group, equal scores counting half, without a loop over groups.

    Rows are sorted once by group and logit. A positive row then wins against the weight of the
    negative rows of its group before its own logit, and half of those at it.

    Example: logits [2, 1, 1] of labels [1, 0, 1] in one group: the positive at 2 wins, the one at 1
    ties, so the AUC is 3/4.

    Args:
        groups: [n] the number of each row's group, 0 or more and below 2^32.
        logits: [n], finite.
        labels: [n]
        weights: [n], above 0.
    """
    # Group and logit in one integer, so that one sort of plain integers does it all.
    places = groups.astype(np.uint64) << np.uint64(32) | sortable(logits)
    order = np.argsort(places)
    places = places[order]
    weight = weights[order].astype(np.float64)
    positive = weight * labels[order]
    scores = _starts(places)
    tied_positive = np.add.reduceat(positive, scores)
    tied_negative = np.add.reduceat(weight - positive, scores)
    group_of_score = places[scores] >> np.uint64(32)
    firsts = _starts(group_of_score)
    scores_per_group = np.diff(firsts, append=len(scores))
    negative_before = np.cumsum(tied_negative) - tied_negative
    below = negative_before - np.repeat(negative_before[firsts], scores_per_group)
    wins = np.add.reduceat(tied_positive * (below + tied_negative / 2), firsts)
    positives = np.add.reduceat(tied_positive, firsts)
    negatives = np.add.reduceat(tied_negative, firsts)
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = wins / (positives * negatives)
    rows = np.diff(scores[firsts], append=len(places))
    return AucByGroup(group_of_score[firsts].astype(np.int64), auc, positives, negatives, rows)


@dataclass(frozen=True)
class AucByGroup:
    """The AUC of each of G groups, in ascending order of their numbers."""

    groups: NDArray[np.int64]
    auc: NDArray[np.float64]
    """[G] NaN for a group of one class."""
    positives: NDArray[np.float64]
    """[G] Summed weights of the positive rows."""
    negatives: NDArray[np.float64]
    """[G] Summed weights of the negative rows."""
    rows: NDArray[np.int64]
    """[G]"""


def _sums_of_task(block: ScoredBlock, model: int, task: int) -> NDArray[np.float64]:
    """[6] One task's part of `group_auc_sums`."""
    logits, weights = block.logits[:, model, task], block.weights[:, task]
    finite = np.isfinite(logits)
    kept = np.flatnonzero(finite & (weights > 0))
    not_finite = np.count_nonzero(~finite & (weights > 0))
    if not len(kept):
        return np.array([0.0, 0.0, 0.0, 0.0, 0.0, not_finite])
    _, groups = np.unique(block.keys[kept], return_inverse=True)
    by_group = auc_by_group(groups, logits[kept], block.labels[kept, task], weights[kept])
    counts = np.isfinite(by_group.auc)
    impressions = (by_group.positives + by_group.negatives)[counts]
    return np.array(
        [
            (by_group.auc[counts] * impressions).sum(),
            impressions.sum(),
            counts.sum(),
            (~counts).sum(),
            by_group.rows[~counts].sum(),
            not_finite,
        ],
        dtype=np.float64,
    )


def _starts(values: NDArray[np.uint64]) -> NDArray[np.intp]:
    """The places at which a sorted array takes a new value, the first among them."""
    return np.flatnonzero(np.diff(values, prepend=~values[:1]))
