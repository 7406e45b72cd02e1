"""The functions of a training step that have two implementations, as one choice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from torch import Tensor

from recsys_mtl.gradients.backend import Backend
from recsys_mtl.gradients.gram import combine_gradients, gram_matrix
from recsys_mtl.gradients.methods.gradops import GradOPSCoefficients, gradops_coefficients


@dataclass(frozen=True)
class Operations:
    """What a backend does with task gradients [T, P]; signatures as in `gradients`."""

    backend: Backend
    gram_matrix: Callable[[Tensor], Tensor]
    gradops_coefficients: Callable[..., GradOPSCoefficients]
    combine_gradients: Callable[..., Tensor]


def operations_of(backend: Backend) -> Operations:
    """The functions of plain torch, or the Triton kernels."""
    match backend:
        case "torch":
            return Operations("torch", gram_matrix, gradops_coefficients, combine_gradients)
        case "triton":
            from recsys_mtl.gradients import kernels  # Triton is optional, and slow to import

            return Operations(
                "triton",
                kernels.gram_matrix,
                kernels.gradops_coefficients,
                kernels.combine_gradients,
            )
        case _:
            assert_never(backend)
