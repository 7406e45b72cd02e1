"""Gram matrices to hold methods to, and what rounding may do to their coefficients."""

# T tasks

import torch
from torch import Tensor

from recsys_mtl.gradients import gram_matrix


def gram_of(gradients: Tensor) -> Tensor:
    """[T, T] of gradients [T, P] in float64."""
    return gram_matrix(gradients.double())


def well_conditioned(num_tasks: int, generator: torch.Generator) -> Tensor:
    """[T, 40] float64 gradients of like norms, some of them in conflict."""
    gradients = torch.randn(num_tasks, 40, generator=generator, dtype=torch.float64)
    gradients += 0.4 * torch.randn(40, generator=generator, dtype=torch.float64)
    if num_tasks > 1:
        gradients[1] -= 0.6 * gradients[0]
    scales = 0.5 + torch.rand(num_tasks, 1, generator=generator, dtype=torch.float64)
    return gradients * scales


def fresh_generator() -> torch.Generator:
    """Seeded anew, with the seed printed."""
    generator = torch.Generator()
    print("seed", generator.seed())
    return generator
