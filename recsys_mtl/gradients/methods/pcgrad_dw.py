"""PCGrad-DW: GradOPS's weighting of tasks on the gradients that PCGrad projects.

Source: Zhu et al., "Gradient Deconfliction via Orthogonal Projections onto Subspaces For
Multi-task Learning", WSDM 2025, section 4.5: Eq. 3 to 5 with PCGrad's gradients in the place of
GradOPS's, and R_i replaced by exp(R_i), since R_i may be negative here. The paper tries alpha -1,
-2 and -3; the default is -1. Alpha 0 is `pcgrad`.

With two tasks the update goes against neither, as a weighted sum of two gradients that oppose none
opposes none; with more it may. No coefficient is negative; their sum is nothing in particular,
while the weights w_i of the projected gradients sum to the number of tasks with a gradient. As for
`dw`, multiplying all gradients by a number changes the weights.

What differs from the papers is what differs in `pcgrad` and `dw`.
"""

# T tasks; g_i^PC is PCGrad's projected gradient of task i

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
from recsys_mtl.gradients.methods.dw import dynamic_weights
from recsys_mtl.gradients.methods.gradops import check_alpha
from recsys_mtl.gradients.methods.pcgrad import order_of_step, project_in_order, shares_kept

NEEDS: frozenset[Need] = frozenset({"gram"})
DIAGNOSTICS = (
    Diagnostic("contribution", "R_i: the product of the summed projections with the task's own."),
    Diagnostic("dynamic_weight", "What the task's projected gradient is multiplied by; mean 1."),
    Diagnostic(
        "share_kept", "Norm of the task's gradient after its projections over the norm before."
    ),
)


@dataclass(frozen=True, eq=False)
class PCGradDWCoefficients:
    """PCGrad-DW on the Gram matrix: what to multiply each task's gradient by, and why."""

    coefficients: Tensor
    """[T] float64: c_i >= 0 with update = sum_i c_i g_i = sum_i w_i g_i^PC."""
    weights: Tensor
    """[T] float64: w_i, with mean 1 over the tasks that have a gradient."""
    contributions: Tensor
    """[T] float64: R_i = sum_k g_k^PC . g_i / |g_i|."""
    shares_kept: Tensor
    """[T] float64: |g_i^PC| / |g_i|, from 0 to 1."""


def pcgrad_dw_coefficients(
    gram: Tensor, order: Tensor, *, alpha: float = -1.0
) -> PCGradDWCoefficients:
    """PCGrad-DW on the Gram matrix alone, without waiting for the device.

    Gram [[1, -1], [-1, 2]] with order [[1], [0]]: g_1^PC = g_1 + g_2 / 2 and g_2^PC = g_2 + g_1,
    whose sum 2 g_1 + 1.5 g_2 has R = [0.5, 1 / sqrt(2)]. With alpha 0 both weights are 1 and the
    coefficients [2, 1.5].

    Args:
        gram: [T, T] float64, finite.
        order: [T, T - 1] int64, as in `pcgrad_coefficients`.
        alpha: above 0 favours tasks that gain most, below 0 those that gain least.

    Raises:
        TypeError: the Gram is not float64.
        ValueError: it is not square, has no task, or alpha is not finite.
    """
    check_gram(gram)
    check_alpha(alpha)
    norms, correlation = correlations(gram)
    present = norms > 0
    combinations = project_in_order(correlation, order)
    contributions = norms @ combinations @ correlation
    weights = dynamic_weights(contributions, present, alpha)
    coefficients = torch.where(present, (weights * norms) @ combinations / norms, 0.0)
    return PCGradDWCoefficients(
        coefficients, weights, contributions, shares_kept(correlation, combinations)
    )


def weigh_tasks(
    evidence: Evidence, state: MethodState, *, alpha: float = -1.0
) -> tuple[TaskWeighting, MethodState]:
    """PCGrad-DW as a step asks for it, with an order of its own for each step; no state.

    Weights are the coefficients, as for `pcgrad`: those are never negative.
    """
    assert evidence.gram is not None
    found = pcgrad_dw_coefficients(evidence.gram, order_of_step(evidence), alpha=alpha)
    diagnostics = {
        "contribution": found.contributions,
        "dynamic_weight": found.weights,
        "share_kept": found.shares_kept,
    }
    return TaskWeighting(found.coefficients, found.coefficients, diagnostics), state
