"""How many pairs of tasks conflict in each part of a model.

Source: Shi et al., "Recon: Reducing Conflicting Gradients from the Root for Multi-Task Learning",
ICLR 2023.
"""

# T tasks, L parts of a model: layers and tables

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Pairs of tasks in each part of a model, at one step."""

    conflicting: Tensor
    """[L] int64: pairs whose cosine is below the threshold."""
    compared: Tensor
    """[L] int64: pairs of which both tasks have a gradient there, so that they could conflict."""


def count_conflicts(grams: Tensor, threshold: float) -> PairCounts:
    """Count the pairs of tasks whose gradients have a cosine below `threshold`.

    Gradients [1, 0], [-1, 1] and [0, 0] have one pair of a cosine of -0.71; the third task has no
    gradient, and so no cosine with anybody: of 1 compared pair, 1 conflicts.

    Args:
        grams: [L, T, T] float64: the products of the tasks' gradients in each part. A Gram that is
            not finite counts nothing.
        threshold: S, -1 < S <= 0.
    """
    norms = grams.diagonal(dim1=1, dim2=2).sqrt()  # [L, T]
    num_tasks = norms.shape[1]
    first, second = torch.triu_indices(num_tasks, num_tasks, offset=1, device=grams.device)
    compared = (norms[:, first] > 0) & (norms[:, second] > 0)
    # Divided one after the other: a product of two small norms can be too small for a float64.
    cosines = grams[:, first, second] / norms[:, first] / norms[:, second]
    finite = grams.isfinite().flatten(start_dim=1).all(dim=1, keepdim=True)
    conflicting = compared & finite & (cosines < threshold)
    return PairCounts(conflicting.sum(dim=1), (compared & finite).sum(dim=1))
