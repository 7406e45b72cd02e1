"""CAGrad: near the mean gradient, the update from which the worst-off task gains most.

Source: Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021,
Algorithm 1. With g_0 the mean gradient, the update d maximises min_i g_i . d within the ball
|d - g_0| <= c |g_0|. c is 0.5 by default, as in the authors' code; 0 is the mean gradient, and
towards 1 the worst-off task decides.

An update may go against a task, within its ball; it never goes against the mean of the losses,
since c is below 1. No coefficient is negative: each is 1 / T plus its part of a convex combination.
They sum to 1 + c |g_0| / |g_w|, which is nothing in particular, and 1 + c for one task. Nothing is
rescaled afterwards (the authors' code divides by 1 + c^2 or by 1 + c on demand).

What differs from the paper:

- The dual problem, to minimise F(w) = g_w . g_0 + c |g_0| |g_w| over convex combinations g_w, is
  solved exactly: every set of tasks that could share the weight is tried at once, and the update
  taken from which the worst-off task gains most. An iterative solver stops short, and waits for
  the device. So there are at most 8 tasks.
- T counts the tasks with a gradient; one without labels has coefficient 0.
- Where the best g_w is zero, the paper's update g_0 + c |g_0| g_w / |g_w| is 0 / 0. Every maximum
  of the original problem then opposes no task, and the one nearest to g_0 is taken: its projection
  onto the cone of what opposes none, as in `upgrad`. A g_w that counts as rounding is zero.
"""

# T tasks, N = 2^T - 1 sets of them; w is on the simplex, g_w = sum_i w_i g_i, u_i = g_i / |g_i|

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
        "worst_share", "The task's weight in the combination that the update leans towards."
    ),
    Diagnostic(
        "worst_gain",
        "The smallest product of the update with a task's gradient, over the mean gradient's "
        "square; below 0 where the update goes against a task.",
        per_task=False,
    ),
)
MOST_TASKS = 8


@dataclass(frozen=True, eq=False)
class CAGradCoefficients:
    """CAGrad on the Gram matrix: what to multiply each task's gradient by, and why."""

    coefficients: Tensor
    """[T] float64: c_i >= 0 with update = sum_i c_i g_i; 0 for a zero gradient."""
    shares: Tensor
    """[T] float64: the convex combination that the update leans towards; w where it minimises F,
    and all 0 where the update is g_0."""


def cagrad_coefficients(
    gram: Tensor, *, c: float = 0.5, zero_sine_squared: float = 1e-8
) -> CAGradCoefficients:
    """CAGrad on the Gram matrix alone, without waiting for the device.

    Gram [[1, 0], [0, 1]] with c 0.5: g_0 has the norm 1 / sqrt(2) and w is [0.5, 0.5], so the
    coefficients are 0.5 + 0.5 * 0.5.

    Args:
        gram: [T, T] float64, finite.
        c: from 0, below 1.
        zero_sine_squared: as `zero_sine_squared_for` gives it for the gradients' dtype.

    Raises:
        TypeError: the Gram is not float64.
        ValueError: it is not square, has no task or more than 8, or c is out of range.
    """
    check_gram(gram)
    if len(gram) > MOST_TASKS:
        raise ValueError(f"gram has {len(gram)} tasks; CAGrad weighs at most {MOST_TASKS}.")
    if not 0 <= c < 1:
        raise ValueError(f"c is {c}; it must be at least 0 and below 1.")
    norms, correlation = correlations(gram)
    present = norms > 0
    mean = norms / present.sum().clamp(min=1)  # g_0 in unit gradients, as all lengths here
    products = correlation @ mean
    radius = c * (mean @ products).clamp(min=0.0).sqrt()
    smallest = torch.where(present, norms, torch.inf).amin()
    inverse = torch.where(present, smallest / norms, 0.0)
    leaning = _stationary_lengths(correlation, inverse, products, radius)
    leaning = leaning * (radius / _norms(correlation, leaning))[:, None]  # as long as the radius
    vanishes = cancels(correlation, leaning, zero_sine_squared=zero_sine_squared)
    exists = leaning.isfinite().all(dim=1) & ~vanishes
    nearest = _to_the_cone(correlation, products, radius, zero_sine_squared)
    added = torch.cat([torch.where(exists[:, None], leaning, 0.0), nearest[None]])
    gains = (mean + added) @ correlation * norms
    worst_gains = torch.where(present, gains, torch.inf).amin(dim=1)
    best = worst_gains.argmax(dim=0, keepdim=True)
    lengths = added.index_select(0, best)[0]
    shares = lengths * inverse
    total = shares.sum()
    return CAGradCoefficients(
        coefficients=torch.where(present, (mean + lengths) / norms, 0.0),
        shares=shares / torch.where(total > 0, total, 1.0),
    )


def _norms(correlation: Tensor, lengths: Tensor) -> Tensor:
    """[...] |sum_i l_i u_i| for lengths [..., T]."""
    return (lengths @ correlation * lengths).sum(dim=-1).clamp(min=0.0).sqrt()


def _stationary_lengths(
    correlation: Tensor, inverse: Tensor, products: Tensor, radius: Tensor
) -> Tensor:
    """[N, T] lengths w_i |g_i|, up to a factor, at which F is stationary within each set.

    There g_i . (g_0 + v) is one number lambda for all i of the set, with v = sum_i v_i g_i a
    multiple of g_w of the length c |g_0|. So v = lambda p - q with p and q the solutions for the
    right sides 1 and g_i . g_0, and lambda is the larger root of |lambda p - q|^2 = (c |g_0|)^2.
    A negative length means that the set has no such point inside; it becomes 0.
    """
    num_tasks = len(inverse)
    tasks = torch.arange(num_tasks, device=inverse.device)
    sets = torch.arange(1, 2**num_tasks, device=inverse.device)
    members = (sets[:, None] >> tasks) & 1 > 0
    identity = torch.eye(num_tasks, dtype=torch.float64, device=inverse.device)
    system = torch.where(members[:, :, None] & members[:, None, :], correlation, identity)
    right_sides = torch.stack([inverse, products], dim=1)
    solved, _ = torch.linalg.solve_ex(system, torch.where(members[:, :, None], right_sides, 0.0))
    p, q = solved.unbind(dim=2)
    one_p, one_q, b_q = p @ inverse, q @ inverse, q @ products
    root = (one_q.square() - one_p * (b_q - radius.square())).sqrt()
    # Of the two forms of the larger root, the one in which nothing cancels.
    by_product = (b_q - radius.square()) / (one_q - root)
    larger = torch.where(one_q >= 0, (one_q + root) / one_p, by_product)
    found: Tensor = (larger[:, None] * p - q).clamp(min=0.0)
    return found


def _to_the_cone(
    correlation: Tensor, products: Tensor, radius: Tensor, zero_sine_squared: float
) -> Tensor:
    """[T] what to add to g_0 so that it opposes no task: the least, and at most the radius."""
    scale = products.abs().amax()
    scale = torch.where(scale > 0, scale, 1.0)
    (relative,) = nonnegative_least_squares(
        correlation, -products[None] / scale, zero_sine_squared=zero_sine_squared
    )
    added = scale * relative
    norm = _norms(correlation, added)
    within: Tensor = added * (radius / torch.where(norm > 0, norm, 1.0)).clamp(max=1.0)
    return within


def weigh_tasks(
    evidence: Evidence, state: MethodState, *, c: float = 0.5
) -> tuple[TaskWeighting, MethodState]:
    """CAGrad as a step asks for it; it remembers nothing.

    Weights are the coefficients, as those are never negative.
    """
    gram = evidence.gram
    assert gram is not None
    found = cagrad_coefficients(gram, c=c)
    present = gram.diagonal() > 0
    gains = torch.where(present, gram @ found.coefficients, torch.inf)
    mean_square = gram.sum() / present.sum().square()
    worst_gain = torch.where(mean_square > 0, gains.amin() / mean_square, torch.nan)
    diagnostics = {"worst_share": found.shares, "worst_gain": worst_gain}
    return TaskWeighting(found.coefficients, found.coefficients, diagnostics), state
