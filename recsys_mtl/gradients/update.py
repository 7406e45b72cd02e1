"""From coefficients to what one step moves by.

O objectives, P shared parameters, H head parameters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.gradients.gradops import GradOPSCoefficients
from recsys_mtl.gradients.gram import combine_gradients


@dataclass(frozen=True, eq=False)
class Update:
    """What one step moves by; the same on every worker."""

    shared: Tensor
    """[P] the combination of the objectives' gradients."""
    private: Tensor
    """[H] each head's own gradient."""
    outside_weights: Tensor
    """[O] for shared parameters outside the Gram: the weights, which are not negative, since a
    negative coefficient is right only for gradients that were in the Gram."""
    norm: Tensor
    """[] of `shared`."""
    skip: Tensor
    """[] bool: something is not finite; nothing may move."""


def combined_update(
    task_gradients: Tensor,
    private_gradient: Tensor,
    gram: Tensor,
    method: GradOPSCoefficients,
    largest_norm: float | None,
) -> Update:
    """Combine the gradients and clip: all shared parameters by one factor, heads apart.

    Args:
        task_gradients: [O, P] summed over the workers.
        private_gradient: [H] summed over the workers.
        gram: [O, O] float64, of `task_gradients`.
        method: what came of `gram`.
        largest_norm: of the shared update and of the heads' gradient; None clips nothing.
    """
    squared_norm = (method.coefficients @ gram @ method.coefficients).clamp(min=0.0)
    clip = _clip_factor(squared_norm.sqrt(), largest_norm)
    private_norm = torch.linalg.vector_norm(private_gradient, dtype=torch.float64)
    private_clip = _clip_factor(private_norm, largest_norm)
    return Update(
        shared=combine_gradients(task_gradients, clip * method.coefficients),
        private=private_gradient * private_clip.to(private_gradient.dtype),
        outside_weights=(clip * method.weights).to(private_gradient.dtype),
        norm=clip * squared_norm.sqrt(),
        skip=~(method.finite & private_norm.isfinite()),
    )


def descent_cosines(task_gradients: Tensor, gram: Tensor, change: Tensor) -> Tensor:
    """[O] float64: cosine between each gradient's descent direction and `change` [P].

    The optimizer acts after deconfliction: this is what it leaves of the guarantee. NaN for a
    zero gradient or change.
    """
    norms = torch.linalg.vector_norm(change, dtype=torch.float64) * gram.diagonal().sqrt()
    products: Tensor = -(task_gradients @ change).double() / norms
    return products


def _clip_factor(norm: Tensor, largest_norm: float | None) -> Tensor:
    if largest_norm is None:
        return torch.ones_like(norm)
    return (largest_norm / norm.clamp(min=1e-30)).clamp(max=1.0)
