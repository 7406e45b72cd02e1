"""GradVac: gradients turned towards each other, up to the cosines that tasks usually have.

Source: Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in
Massively Multilingual Models", ICLR 2021, Algorithm 1. Each pair of tasks has a target cosine, a
moving average with the rate beta; where a task's gradient has a smaller cosine with another one, it
gets so much of the other as brings it to the target. Beta is 0.5 by default, as in LibMTL and
TorchJD 0.18. Targets begin at 0, where this is PCGrad; with beta 0 they stay there.

As in the paper, the update is the sum of the turned gradients. A coefficient is never negative, 1
where nothing was turned and above 1 elsewhere; the sum is nothing in particular. Nothing is
promised: with a target below 0 an update may go against a task, even of two.

What differs from the paper:

- One cosine per pair is compared, over all parameters in the Gram, not one per layer or matrix.
- All is done on the Gram matrix, so that no gradient is turned as a vector.
- A task with a zero gradient is left out, and the targets of its pairs do not move. The same holds
  for a gradient that its own turns have brought to zero.
- A target nearer to 1 or -1 than the sine 1e-4 counts as that: at 1 no finite step reaches it.
"""

# T tasks; g_i' is the gradient of task i as its turns have made it

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.gradients.gram import check_gram, correlations
from recsys_mtl.gradients.methods.contract import (
    Diagnostic,
    Evidence,
    MethodState,
    Need,
    TaskWeighting,
)
from recsys_mtl.gradients.methods.pcgrad import order_of_step

NEEDS: frozenset[Need] = frozenset({"gram"})
DIAGNOSTICS = (
    Diagnostic("target_cosine", "Mean cosine with the other tasks that is aimed at."),
    Diagnostic("growth", "Norm of the task's gradient after its turns over the norm before."),
)


@dataclass(frozen=True, eq=False)
class GradVacCoefficients:
    """GradVac on the Gram matrix: what to multiply each task's gradient by, and what comes next."""

    coefficients: Tensor
    """[T] float64: c_i >= 0 with update = sum_i c_i g_i; 0 for a zero gradient."""
    growth: Tensor
    """[T] float64: |g_i'| / |g_i|; 0 for a zero gradient."""
    targets: Tensor
    """[T, T] float64: the target cosines of the next step; row i for the turns of task i."""


def gradvac_coefficients(
    gram: Tensor,
    order: Tensor,
    targets: Tensor,
    *,
    beta: float = 0.5,
    zero_sine_squared: float = 1e-8,
) -> GradVacCoefficients:
    """GradVac on the Gram matrix alone, without waiting for the device.

    Gram [[1, 0], [0, 1]] with order [[1], [0]] and targets of 0.6: to have the cosine 0.6 with g_2,
    g_1 needs 0.6 / 0.8 of it, and g_2 as much of g_1. The coefficients are [1.75, 1.75]. With beta
    0.5 the next targets are 0.3, the mean of 0.6 and 0.

    Args:
        gram: [T, T] float64, finite.
        order: [T, T - 1] int64: in row i all other tasks, in the order of task i's turns.
        targets: [T, T] float64, in row i the cosines that task i is to have with the others.
        beta: from 0 to 1, how far a target moves towards the cosine that was met.
        zero_sine_squared: the squared length, relative to the gradient's, that counts as zero.

    Raises:
        TypeError: the Gram is not float64.
        ValueError: it is not square or has no task, the targets have another shape, or beta is out
            of range.
    """
    check_gram(gram)
    if not 0 <= beta <= 1:
        raise ValueError(f"beta is {beta}; it must be from 0 to 1.")
    if targets.shape != gram.shape:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)}; it must have the Gram's, "
            f"{tuple(gram.shape)}."
        )
    norms, correlation = correlations(gram)
    tasks = torch.arange(len(gram), device=gram.device)
    present, largest = norms > 0, (1 - zero_sine_squared) ** 0.5
    # Row i: g_i' / |g_i| as a combination of unit gradients, so that no ratio of norms is lost.
    combinations = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    for others in order.unbind(dim=1):
        is_other = tasks == others[:, None]
        products = combinations @ correlation
        length = _lengths(products, combinations)
        known = (is_other & present).any(dim=1) & (length.square() > zero_sine_squared)
        cosine = (products * is_other).sum(dim=1) / torch.where(known, length, 1.0)
        cosine = cosine.clamp(-1.0, 1.0)
        target = (targets * is_other).sum(dim=1).clamp(-largest, largest)
        sine, target_sine = (1 - cosine.square()).sqrt(), (1 - target.square()).sqrt()
        missing = length * (target * sine - cosine * target_sine) / target_sine
        added = torch.where(known & (cosine < target), missing, 0.0)
        combinations = combinations + is_other * added[:, None]
        moved = is_other & known[:, None]
        targets = torch.where(moved, torch.lerp(targets, cosine[:, None], beta), targets)
    growth = torch.where(present, _lengths(combinations @ correlation, combinations), 0.0)
    coefficients = torch.where(present, norms @ combinations / norms, 0.0)
    return GradVacCoefficients(coefficients, growth, targets)


def _lengths(products: Tensor, combinations: Tensor) -> Tensor:
    """[T] |g_i'| / |g_i|, from the products with unit gradients, [T, T]."""
    return (products * combinations).sum(dim=1).clamp(min=0.0).sqrt()


def initial_state(num_tasks: int) -> MethodState:
    """Every target 0: the first step is PCGrad's."""
    return {"targets": torch.zeros(num_tasks, num_tasks, dtype=torch.float64)}


def weigh_tasks(
    evidence: Evidence, state: MethodState, *, beta: float = 0.5
) -> tuple[TaskWeighting, MethodState]:
    """GradVac as a step asks for it, with an order of its own for each step.

    Weights are the coefficients, as those are never negative. The diagnostics have the targets that
    the step aimed at.
    """
    assert evidence.gram is not None
    targets = state["targets"]
    found = gradvac_coefficients(evidence.gram, order_of_step(evidence), targets, beta=beta)
    off_diagonal = targets.sum(dim=1) - targets.diagonal()
    diagnostics = {
        "target_cosine": off_diagonal / max(1, len(targets) - 1),
        "growth": found.growth,
    }
    weighting = TaskWeighting(found.coefficients, found.coefficients, diagnostics)
    return weighting, {"targets": found.targets}
