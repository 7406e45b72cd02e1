"""Which unit gradients are linearly independent, and what the others are made of."""

# N eliminations at once, T tasks

import torch
from torch import Tensor


def eliminate(
    correlation: Tensor, waiting: Tensor, *, rounds: int, zero_sine_squared: float
) -> tuple[Tensor, Tensor]:
    """Gauss-Jordan eliminations of a Gram of unit gradients, each over gradients of its own.

    Each round takes as next pivot the gradient that is farthest from the span of those taken
    before, unless no squared sine exceeds the limit: dependent gradients add nothing to a span.

    Correlations [[1, 0.6], [0.6, 1]] with only the first waiting become [[1, 0.6], [0, 0.64]]: the
    second gradient is 0.6 times the first and a remainder with the square 0.64.

    Args:
        correlation: [T, T] float64, diagonal 1, or 0 for a zero gradient.
        waiting: [N, T] bool, the gradients that may become pivots.
        rounds: how many pivots there are at most.
        zero_sine_squared: the squared sine up to which a gradient counts as dependent.

    Returns:
        tableau [N, T, T]: in the rows of pivots, column j has the coefficients of gradient j on
        them; elsewhere, what remains of the products. And [N, T] bool, those that wait still.
    """
    tasks = torch.arange(len(correlation), device=correlation.device)
    tableau = correlation.expand(len(waiting), -1, -1)
    for _ in range(rounds):
        residuals = torch.where(waiting, tableau.diagonal(dim1=1, dim2=2), 0.0)
        residual, pivot = residuals.max(dim=1)
        independent = residual > zero_sine_squared
        is_pivot = (tasks == pivot[:, None]) & independent[:, None]
        # Without a pivot both are zero, and the elimination changes nothing.
        column = (tableau * is_pivot[:, None, :]).sum(dim=2)
        divisor = torch.where(independent, residual, 1.0)
        row = (tableau * is_pivot[:, :, None]).sum(dim=1) / divisor[:, None]
        eliminated = tableau - column[:, :, None] * row[:, None, :]
        tableau = torch.where(is_pivot[:, :, None], row[:, None, :], eliminated)
        waiting = waiting & ~is_pivot
    return tableau, waiting
