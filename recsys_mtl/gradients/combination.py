"""From coefficients to the size of what one step moves by.

T tasks, P shared parameters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from recsys_mtl.gradients.gram import correlations


def combined_norm(gram: Tensor, coefficients: Tensor) -> Tensor:
    """[] float64: the norm of sum_i c_i g_i, from the Gram [T, T] of the g_i."""
    return (coefficients @ gram @ coefficients).clamp(min=0.0).sqrt()


def vector_norm(vector: Tensor) -> Tensor:
    """[] float64: the norm of a flat gradient."""
    norm: Tensor = torch.linalg.vector_norm(vector, dtype=torch.float64)
    return norm


def clip_factor(norm: Tensor, largest_norm: float | None) -> Tensor:
    """[] float64: what shortens a gradient of this norm to the largest one allowed.

    Args:
        largest_norm: None clips nothing.
    """
    if largest_norm is None:
        return torch.ones_like(norm)
    return (largest_norm / norm.clamp(min=1e-30)).clamp(max=1.0)


def weighted_sum(coefficients: Tensor, gradients: Sequence[Tensor] | Tensor) -> Tensor:
    """sum_i c_i g_i of T gradients of any shape, in their dtype; summed in float32 at least."""
    first, *others = gradients
    wide = torch.promote_types(first.dtype, torch.float32)
    factors = coefficients.to(wide).unbind()
    total = factors[0] * first.to(wide)
    for factor, gradient in zip(factors[1:], others, strict=True):
        total.addcmul_(factor, gradient.to(wide))
    return total.to(first.dtype)


def descent_cosines(task_gradients: Tensor, gram: Tensor, change: Tensor) -> Tensor:
    """[T] float64: cosine between each gradient's descent direction and `change` [P].

    The optimizer acts after deconfliction: this is what it leaves of the guarantee. NaN for a
    zero gradient or change.

    Args:
        task_gradients: [T, P]
        gram: [T, T] float64, of `task_gradients`.
    """
    norms = vector_norm(change) * gram.diagonal().sqrt()
    products: Tensor = -(task_gradients @ change).double() / norms
    return products


def violates_non_conflict(gram: Tensor, coefficients: Tensor) -> Tensor:
    """[] bool: sum_i c_i g_i goes against some task's gradient, by more than rounding.

    Gram [[1, -1], [-1, 2]] with coefficients [1, 1] gives the products [0, 1]: it does not. With
    [1, 0.5] they are [0.5, 0], with [1, 0.4] [0.6, -0.2]: it does.
    """
    norms, correlation = correlations(gram)
    lengths = coefficients * norms
    products = correlation @ lengths
    norm = (lengths @ products).clamp(min=0.0).sqrt()
    return (products < -1e-6 * norm).any()
