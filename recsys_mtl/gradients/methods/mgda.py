"""MGDA: the shortest convex combination of the tasks' gradients.

Source: Désidéri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization",
2012; Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018. There
are no hyperparameters. With `gradients.space: representation` it is the second paper's MGDA-UB.

No update goes against a task's gradient: the product of each with the update is at least the
update's own square (at the representation nothing is promised for parameters). Coefficients and
weights are the same numbers: never negative, with the sum 1. So an update is never longer than the
shortest gradient, and a task with a small gradient decides where the others are long: what MGDA is
known for. Gradients are not normalised beforehand, as both papers define it.

What differs from the papers:

- The weights are exact, by an active set; the second paper's Frank-Wolfe iterations stop short.
- A task with a zero gradient is left out. In the papers' formula it would be the shortest
  combination, and a batch without labels of one task would stop all tasks.
- Where the combination cancels up to rounding, the step is zero: no direction helps every task.
"""

# T tasks

import torch
from torch import Tensor

from recsys_mtl.gradients.combination import combined_norm
from recsys_mtl.gradients.gram import check_gram
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
    Diagnostic(
        "norm_ratio",
        "Norm of the combination over the shortest gradient's: 1 where that task decides alone, "
        "near 0 where no direction helps every task.",
        per_task=False,
    ),
)


def mgda_coefficients(gram: Tensor, *, zero_sine_squared: float = 1e-8) -> Tensor:
    """MGDA on the Gram matrix alone, without waiting for the device: [T] float64, >= 0, sum 1.

    Gram [[1, 0], [0, 3]] gives [0.75, 0.25]. All are 0 where no direction helps every task, as for
    Gram [[1, -1], [-1, 1]].

    Args:
        gram: [T, T] float64, finite.
        zero_sine_squared: as `zero_sine_squared_for` gives it for the gradients' dtype.

    Raises:
        TypeError: the Gram is not float64.
        ValueError: it is not square, or has no task.
    """
    check_gram(gram)
    return min_norm_step(gram, zero_sine_squared=zero_sine_squared)


def weigh_tasks(evidence: Evidence, state: MethodState) -> tuple[TaskWeighting, MethodState]:
    """MGDA as a step asks for it; it remembers nothing."""
    gram = evidence.gram
    assert gram is not None
    coefficients = mgda_coefficients(gram)
    norms = gram.diagonal().sqrt()
    shortest = torch.where(norms > 0, norms, torch.inf).amin()
    diagnostics = {"norm_ratio": combined_norm(gram, coefficients) / shortest}
    return TaskWeighting(coefficients, coefficients, diagnostics), state
