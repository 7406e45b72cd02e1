"""The point of smallest norm in the convex hull of the task gradients (MGDA)."""

# T tasks

import torch
from torch import Tensor

from recsys_mtl.gradients.combination import cancels
from recsys_mtl.gradients.gram import correlations
from recsys_mtl.gradients.least_squares import nonnegative_least_squares


def min_norm(gram: Tensor) -> Tensor:
    """Weights of the convex combination of gradients that has the smallest norm.

    Gram [[1, 0], [0, 3]] gives the weights [0.75, 0.25].

    With n the smallest norm, the weights v >= 0 that minimise |sum v_i g_i|^2 + (n sum v_i - 1)^2
    are a multiple of the answer, whatever n: for a given sum of v the first term alone decides
    between them. In u_i = v_i |g_i| this is non-negative least squares on unit gradients, so
    norms of any ratio are safe.

    Args:
        gram: [T, T] float64, finite.

    Returns:
        [T] float64, non-negative, sum 1; 0 for a task whose gradient is zero (all 0 if each is).

    Source: Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", 2018, Eq. 4.
    """
    norms, correlation = correlations(gram)
    present = norms > 0
    smallest = torch.where(present, norms, torch.inf).amin()
    inverse_norms = torch.where(present, smallest / norms, 0.0)
    normal_matrix = correlation + torch.outer(inverse_norms, inverse_norms)
    (lengths,) = nonnegative_least_squares(normal_matrix, inverse_norms[None])
    weights = inverse_norms * lengths
    total = weights.sum()
    found: Tensor = weights / torch.where(total > 0, total, 1.0)
    return found


def min_norm_step(gram: Tensor, *, zero_sine_squared: float = 1e-8) -> Tensor:
    """The weights of `min_norm`, [T]; all 0 where that point is zero: no direction helps.

    Zero is judged as in `cancels`.
    """
    weights = min_norm(gram)
    norms, correlation = correlations(gram)
    is_zero = cancels(correlation, weights * norms, zero_sine_squared=zero_sine_squared)
    return torch.where(is_zero, 0.0, weights)
