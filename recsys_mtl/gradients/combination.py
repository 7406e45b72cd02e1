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


def cancels(correlation: Tensor, lengths: Tensor, *, zero_sine_squared: float = 1e-8) -> Tensor:
    """[...] bool: sum_i l_i u_i of the unit gradients u_i counts as zero.

    It does where it is as short beside its longest term as what remains of a gradient that counts
    as dependent: all that is left is rounding, which an optimizer such as Adam would scale up.

    Correlations [[1, -1], [-1, 1]] with lengths [2, 2] cancel, with [2, 1] they do not.

    Args:
        correlation: [T, T] float64.
        lengths: [..., T] float64.
        zero_sine_squared: as `zero_sine_squared_for` gives it for the gradients' dtype.
    """
    squared = (lengths @ correlation * lengths).sum(dim=-1)
    return squared <= zero_sine_squared * lengths.square().amax(dim=-1)


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
