"""The methods of the configuration: from task losses to the coefficients of the update.

T tasks; O objectives, the losses that get a gradient of their own.
"""

from typing import assert_never

from torch import Tensor

from recsys_mtl.config import GradOPS, Method, Uniform
from recsys_mtl.gradients.gradops import GradOPSCoefficients, gradops_coefficients


def objectives(method: Method, losses: Tensor) -> Tensor:
    """[O] What is differentiated: every task for itself, or their sum."""
    match method:
        case Uniform():
            return losses.sum(dim=0, keepdim=True)
        case GradOPS():
            return losses
        case _:
            assert_never(method)


def objective_tasks(method: Method, num_tasks: int) -> list[range]:
    """The tasks in each objective, whose heads get their gradient from it."""
    match method:
        case Uniform():
            return [range(num_tasks)]
        case GradOPS():
            return [range(task, task + 1) for task in range(num_tasks)]
        case _:
            assert_never(method)


def method_coefficients(method: Method, gram: Tensor) -> GradOPSCoefficients:
    """Weights and coefficients [O] from the Gram [O, O] of the objectives' gradients.

    The uniform sum is one objective: its coefficient is 1, or the step is skipped when not finite.
    """
    match method:
        case Uniform():
            return gradops_coefficients(gram, alpha=0.0)
        case GradOPS():
            return gradops_coefficients(gram, alpha=method.alpha)
        case _:
            assert_never(method)
