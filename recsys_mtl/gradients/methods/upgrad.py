"""UPGrad: the mean of the gradients, each projected onto the cone of what opposes no task.

Source: Quinton and Rey, "Jacobian Descent For Multi-Objective Optimization", 2024, Eq. 3 and
Proposition 1. There are no hyperparameters.

No update goes against a task's gradient, as none of the projections does. The update is a mean, as
in the paper: without a conflict every coefficient is 1 / T, and none is ever below that. So they
sum to at least 1, and to nothing in particular.

What differs from the paper:

- T counts the tasks with a gradient. A zero one would only make the mean of the others shorter.
- The projections are exact for a singular Gram, too, without a ridge: a gradient that depends on
  others is never needed beside them, and the projection is the same without it. (TorchJD 0.18
  scales the Gram to trace 1 and adds 1e-4 to its diagonal; given that matrix, this gives its
  weights.)
- Where the update cancels up to rounding, the step is zero: no direction helps every task.
"""

# T tasks; pi(g_k) is the projection of task k's gradient

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.gradients.combination import cancels
from recsys_mtl.gradients.gram import check_gram, correlations
from recsys_mtl.gradients.least_squares import nonnegative_least_squares
from recsys_mtl.gradients.methods.contract import (
    Diagnostic,
    Evidence,
    MethodState,
    Need,
    TaskWeighting,
)

NEEDS: frozenset[Need] = frozenset({"gram"})
DIAGNOSTICS = (
    Diagnostic(
        "share_kept", "Norm of the task's gradient after its projection over the norm before."
    ),
)


@dataclass(frozen=True, eq=False)
class UPGradCoefficients:
    """UPGrad on the Gram matrix: what to multiply each task's gradient by, and what is kept."""

    coefficients: Tensor
    """[T] float64: c_i with update = sum_i c_i g_i, at least one over the number of tasks with a
    gradient; 0 for a zero gradient, and all 0 where the update is zero."""
    projections: Tensor
    """[T, T] float64: row k has pi(g_k) / |g_k| as a combination of the unit gradients."""
    shares_kept: Tensor
    """[T] float64: |pi(g_k)| / |g_k|, from 0 to 1; 0 for a zero gradient."""


def upgrad_coefficients(gram: Tensor, *, zero_sine_squared: float = 1e-8) -> UPGradCoefficients:
    """UPGrad on the Gram matrix alone, without waiting for the device.

    Gram [[1, -1], [-1, 2]]: pi(g_1) = g_1 + g_2 / 2 and pi(g_2) = g_2 + g_1, so their mean has the
    coefficients [1, 0.75].

    pi(g_k) is the shortest g_k + sum_i v_i g_i with v >= 0 (Proposition 1), which is non-negative
    least squares on unit gradients, for all k at once.

    Args:
        gram: [T, T] float64, finite.
        zero_sine_squared: as `zero_sine_squared_for` gives it for the gradients' dtype.

    Raises:
        TypeError: the Gram is not float64.
        ValueError: it is not square, or has no task.
    """
    check_gram(gram)
    norms, correlation = correlations(gram)
    present = norms > 0
    added = nonnegative_least_squares(
        correlation, -correlation, zero_sine_squared=zero_sine_squared
    )
    projections = torch.diag(present.double()) + added
    lengths = norms @ projections / present.sum().clamp(min=1)
    kept = present & ~cancels(correlation, lengths, zero_sine_squared=zero_sine_squared)
    coefficients = torch.where(kept, lengths / norms, 0.0)
    kept_squared = (projections @ correlation * projections).sum(dim=1)
    return UPGradCoefficients(coefficients, projections, kept_squared.clamp(0.0, 1.0).sqrt())


def weigh_tasks(evidence: Evidence, state: MethodState) -> tuple[TaskWeighting, MethodState]:
    """UPGrad as a step asks for it; it remembers nothing.

    Weights are the coefficients, as those are never negative.
    """
    assert evidence.gram is not None
    found = upgrad_coefficients(evidence.gram)
    diagnostics = {"share_kept": found.shares_kept}
    return TaskWeighting(found.coefficients, found.coefficients, diagnostics), state
