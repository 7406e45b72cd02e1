"""DW: GradOPS's weighting of tasks on the gradients as they are, with no conflict removed.

Source: Zhu et al., "Gradient Deconfliction via Orthogonal Projections onto Subspaces For
Multi-task Learning", WSDM 2025, section 4.5: Eq. 3 to 5 with the raw gradients in the place of the
projected ones, and R_i replaced by exp(R_i), since R_i may be negative here. The paper tries alpha
-1, -2 and -3; the default is -1. Alpha 0 is the plain sum.

Nothing is promised: an update may go against a task. Coefficients and weights are the same numbers;
they sum to the number of tasks with a gradient. Multiplying all gradients by a number changes the
weights, as an exponential of R_i has no scale of its own: with gradients of norm 0.01 alpha -1
hardly weighs at all.

Two things differ from the paper. The mean of Eq. 5 is over the tasks with a gradient: one without
labels in the batch has weight 0, and the others are as if it were not there. The weights are
computed as a softmax, which no R_i overflows.
"""

# T tasks

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
from recsys_mtl.gradients.methods.gradops import check_alpha

NEEDS: frozenset[Need] = frozenset({"gram"})
DIAGNOSTICS = (
    Diagnostic(
        "contribution", "R_i: the product of the summed gradients with the task's direction."
    ),
)


def dw_coefficients(gram: Tensor, *, alpha: float = -1.0) -> Tensor:
    """DW on the Gram matrix alone, without waiting for the device: [T] float64, >= 0.

    Gram [[1, 0], [0, 4]]: R_i are [1, 2], and with alpha -1 the weights are 2 e / (1 + e) and
    2 / (1 + e).

    Args:
        gram: [T, T] float64, finite.
        alpha: above 0 favours tasks that gain most, below 0 those that gain least.

    Raises:
        TypeError: the Gram is not float64.
        ValueError: it is not square, has no task, or alpha is not finite.
    """
    check_gram(gram)
    check_alpha(alpha)
    norms, correlation = correlations(gram)
    return dynamic_weights(correlation @ norms, norms > 0, alpha)


def dynamic_weights(contributions: Tensor, present: Tensor, alpha: float) -> Tensor:
    """Eq. 5 with exp(R_i) for R_i, [T]: weights with mean 1 over the tasks present, 0 elsewhere.

    Args:
        contributions: [T] float64, R_i.
        present: [T] bool.
    """
    shares = torch.where(present, alpha * contributions, -torch.inf).softmax(dim=0)
    return torch.where(present, present.sum() * shares, 0.0)


def weigh_tasks(
    evidence: Evidence, state: MethodState, *, alpha: float = -1.0
) -> tuple[TaskWeighting, MethodState]:
    """DW as a step asks for it; it remembers nothing."""
    gram = evidence.gram
    assert gram is not None
    weights = dw_coefficients(gram, alpha=alpha)
    norms, correlation = correlations(gram)
    return TaskWeighting(weights, weights, {"contribution": correlation @ norms}), state
