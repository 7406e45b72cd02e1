"""GradOPS: one update from several task gradients that no task's gradient opposes.

Everything is computed from the Gram matrix of the gradients, so they are read twice, once for
their products and once for the update, and never projected one by one.

Source: Zhu et al., "Gradient Deconfliction via Orthogonal Projections onto Subspaces For
Multi-task Learning", WSDM 2025, Algorithm 1 and Eq. 1-5. The mean of Eq. 5 is over the tasks whose
projected gradient remains, as `gradops_coefficients` says. The weights of those tasks have the mean
1; the coefficients sum to nothing in particular.
"""

# T tasks, P shared parameters; a task conflicts when its product with another task is negative

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.gradients.elimination import eliminate
from recsys_mtl.gradients.gram import check_gram, correlations
from recsys_mtl.gradients.methods.contract import (
    Diagnostic,
    Evidence,
    MethodState,
    Need,
    TaskWeighting,
)
from recsys_mtl.gradients.min_norm import min_norm_step

NEEDS: frozenset[Need] = frozenset({"gram"})
DIAGNOSTICS = (
    Diagnostic("contribution", "R_i: how far the combined gradient serves the task."),
    Diagnostic(
        "share_kept", "Norm of the task's gradient after its projections over the norm before."
    ),
    Diagnostic(
        "min_norm",
        "No projected gradient was left, and the min-norm combination took their place.",
        per_task=False,
        flag=True,
    ),
)


@dataclass(frozen=True, eq=False)
class GradOPSCoefficients:
    """GradOPS on the Gram matrix: what to multiply each task's gradient by, and why."""

    weights: Tensor
    """[T] float64: w_i >= 0, the weight of projected gradient g'_i (Eq. 5); their mean over the
    tasks with g'_i != 0 is 1. In the min-norm fallback: the convex combination."""
    coefficients: Tensor
    """[T] float64: c_i with update = sum_i c_i g_i. May be negative: a projection subtracts."""
    conflicts: Tensor
    """[T, T] bool: pairs of tasks with a negative product."""
    shares_kept: Tensor
    """[T] float64: |g'_i| / |g_i|, the sine of g_i to the span of the others where it conflicts,
    else 1; 0 for a zero gradient."""
    contributions: Tensor
    """[T] float64: R_i, the product of sum_k g'_k with g_i / |g_i| (Eq. 3); 0 for a zero one."""
    used_min_norm: Tensor
    """[] bool: every projected gradient was zero, and the min-norm point took their place."""
    finite: Tensor
    """[] bool: the Gram was finite. Where it was not, all the numbers above are 0: skip the step,
    since a zero gradient still moves an optimizer that has momentum."""


def zero_sine_squared_for(dtype: torch.dtype) -> float:
    """The squared sine up to which gradients of this dtype count as linearly dependent.

    Rounding alone leaves dependent float32 gradients a squared sine near 1e-14, and the float64
    algebra one near 1e-16; both limits are far above, and far below any sine that matters.
    """
    return 1e-13 if dtype == torch.float64 else 1e-8


def gradops_coefficients(
    gram: Tensor, *, alpha: float, zero_sine_squared: float = 1e-8
) -> GradOPSCoefficients:
    """GradOPS on the Gram matrix alone, without waiting for the device.

    Gram [[1, -1], [-1, 2]] with alpha 0 gives the weights [1, 1] and the coefficients [2, 1.5].

    A task with a zero gradient gets weight and coefficient 0, and the others are as if it were
    not there. Eq. 5 takes means over all tasks, which for alpha < 0 divides by zero where a
    projected gradient vanishes; here they are over the tasks whose projected gradient remains.

    Args:
        gram: [T, T] float64, as `gram_matrix` returns it.
        alpha: above 0 favours tasks that gain most, below 0 those that gain least.
        zero_sine_squared: as `zero_sine_squared_for` gives it for the gradients' dtype.

    Raises:
        TypeError: not float64.
        ValueError: not square, no task, or alpha not finite.
    """
    check_gram(gram)
    check_alpha(alpha)

    def powers(contributions: Tensor, kept: Tensor) -> Tensor:
        return _weights(contributions, kept, alpha)

    return deconflicted_coefficients(gram, powers, zero_sine_squared=zero_sine_squared)


def deconflicted_coefficients(
    gram: Tensor,
    weigh: Callable[[Tensor, Tensor], Tensor],
    *,
    zero_sine_squared: float,
) -> GradOPSCoefficients:
    """GradOPS's projected gradients g'_i under any weights; the min-norm point where none is left.

    Args:
        gram: [T, T] float64.
        weigh: from R_i [T] and where g'_i != 0 [T] bool to the weights [T], 0 for g'_i = 0.
        zero_sine_squared: as in `gradops_coefficients`.
    """
    finite = gram.isfinite().all()
    gram = torch.where(finite, gram, 0.0)
    norms, correlation = correlations(gram)
    present = norms > 0
    conflicts = correlation < 0
    conflicting = conflicts.any(dim=1)
    regression, sine_squared = _regress_on_others(correlation, zero_sine_squared)

    kept_squared = torch.where(conflicting, sine_squared, present.double())
    contributions = _contributions(norms, correlation, conflicting, sine_squared)
    weights = weigh(contributions, kept_squared > 0)
    scaled_weights = weights * norms
    removed = torch.where(conflicting, scaled_weights, 0.0) @ regression
    coefficients = torch.where(present, (scaled_weights - removed) / norms, 0.0)

    used_min_norm = present.any() & ~kept_squared.any()
    # On a CPU reading a flag costs nothing, so the iterations are run only where they are needed.
    if gram.device.type != "cpu" or bool(used_min_norm):
        convex = min_norm_step(gram, zero_sine_squared=zero_sine_squared)
        weights = torch.where(used_min_norm, convex, weights)
        coefficients = torch.where(used_min_norm, convex, coefficients)
    return GradOPSCoefficients(
        weights=weights,
        coefficients=coefficients,
        conflicts=conflicts,
        shares_kept=kept_squared.sqrt(),
        contributions=contributions,
        used_min_norm=used_min_norm,
        finite=finite,
    )


def _regress_on_others(correlation: Tensor, zero_sine_squared: float) -> tuple[Tensor, Tensor]:
    """Least squares of every unit gradient on all the others, as one batch of T eliminations.

    Dependent gradients add nothing to the others' span; a ridge or a pseudo-inverse of the whole
    matrix would leave negative products.

    Args:
        correlation: [T, T] float64, diagonal 1, or 0 for a zero gradient.

    Returns:
        regression [T, T], row i the coefficients of gradient i on the others (0 at i), and
        sine_squared [T], that of gradient i to their span, 0 where it is within the limit or
        could be rounding.
    """
    num_tasks = len(correlation)
    itself = torch.eye(num_tasks, dtype=torch.bool, device=correlation.device)
    tableau, waiting = eliminate(
        correlation, ~itself, rounds=num_tasks - 1, zero_sine_squared=zero_sine_squared
    )
    targets = tableau.diagonal(dim1=0, dim2=2).T  # [target, row]: the column of the target itself
    regression = torch.where(waiting | itself, 0.0, targets)
    sine_squared = targets.diagonal()
    # Where the others are near-dependent, large coefficients enlarge the Gram's rounding in the
    # sine; a sine of rounding alone would draw all the weight to its task when alpha < 0.
    growth = 1 + regression.abs().sum(dim=1)
    rounding = 16 * torch.finfo(torch.float64).eps * growth.square()
    kept = sine_squared > rounding.clamp_min(zero_sine_squared)
    return regression, torch.where(kept, sine_squared, 0.0)


def _contributions(
    norms: Tensor, correlation: Tensor, conflicting: Tensor, sine_squared: Tensor
) -> Tensor:
    """R_i = sum_k g'_k . g_i / |g_i|, [T] (Eq. 3).

    A conflicting task's g'_k is orthogonal to every gradient but its own. Those products are left
    out instead of summed: where norms differ by 8 decades their rounding costs 6e-4 of R_i.
    """
    products = torch.where(conflicting[:, None], sine_squared.diag(), correlation)
    return norms @ products


def _weights(contributions: Tensor, kept: Tensor, alpha: float) -> Tensor:
    """w_i = r_i^alpha / mean(r^alpha), [T] (Eq. 5), over the tasks kept, as a softmax.

    All of them have R_i > 0: a sum of products that are not negative, their own among them.
    """
    logits = alpha * torch.where(kept, contributions, 1.0).log()
    shares = torch.where(kept, logits, -torch.inf).softmax(dim=0)
    return torch.where(kept, kept.sum() * shares, 0.0)


def weigh_tasks(
    evidence: Evidence,
    state: MethodState,
    *,
    alpha: float,
    coefficients: Callable[..., GradOPSCoefficients] = gradops_coefficients,
) -> tuple[TaskWeighting, MethodState]:
    """GradOPS as a step asks for it; it remembers nothing.

    Args:
        alpha: as in `gradops_coefficients`.
        coefficients: that function, or the backend's own with its signature.
    """
    assert evidence.gram is not None
    return weighting_of(coefficients(evidence.gram, alpha=alpha)), state


def weighting_of(found: GradOPSCoefficients) -> TaskWeighting:
    """What a step takes of them, with the numbers that `DIAGNOSTICS` names."""
    diagnostics = {
        "contribution": found.contributions,
        "share_kept": found.shares_kept,
        "min_norm": found.used_min_norm,
    }
    return TaskWeighting(found.coefficients, found.weights, diagnostics)


def check_alpha(alpha: float) -> None:
    """Raises ValueError for an exponent of Eq. 5 that is not finite."""
    if not math.isfinite(alpha):
        raise ValueError(f"alpha is {alpha}; it must be a finite number.")
