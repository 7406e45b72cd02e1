"""IMTL-G: the combination whose products with every task's direction are equal.

Source: Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021: the gradient balance of its
two parts (the loss balance, IMTL-L, is not here). There are no hyperparameters.

An update has the same product, which is not negative, with the direction g_i / |g_i| of every task:
none is opposed, and none is preferred. Coefficients sum to 1, to -1 where `reversed` says so, or to
0 where no direction but zero is impartial. They may be negative. So weights, for parameters outside
the Gram, are their positive part scaled to the sum 1, for which nothing is promised.

What differs from the paper:

- The paper asks for coefficients with the sum 1, whatever comes of it: where those of the impartial
  direction have a negative sum, as with three tasks and more they may, its combination goes against
  every task. Here the opposite is taken. `reversed` counts how often.
- A task with a zero gradient is left out.
- Gradients that depend on each other need not have an impartial direction: opposite ones have none.
  Where there is none, the step is zero; where there is one, as for duplicates, coefficients are
  shared out by least squares, so that the order of tasks does not matter.
- Near a sum of 0 the paper's coefficients grow without bound. Where the sum could be rounding, the
  step is zero; `training.gradient_clip_norm` bounds the others.
"""

# T tasks, u_i = g_i / |g_i|

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.gradients.elimination import eliminate
from recsys_mtl.gradients.gram import check_gram, correlations
from recsys_mtl.gradients.methods.contract import (
    Diagnostic,
    Evidence,
    MethodState,
    Need,
    TaskWeighting,
)

NEEDS: frozenset[Need] = frozenset({"gram"})
DIAGNOSTICS = (
    Diagnostic(
        "projection", "The update's product with the direction of every task.", per_task=False
    ),
    Diagnostic(
        "reversed",
        "With the sum 1 the coefficients would have gone against every task, and their opposite "
        "was taken.",
        per_task=False,
        flag=True,
    ),
)
_ROUNDING = 1e-8  # what the Gram of float32 gradients cannot tell from 0, relative to its terms


@dataclass(frozen=True, eq=False)
class IMTLGCoefficients:
    """IMTL-G on the Gram matrix: what to multiply each task's gradient by, and what it comes to."""

    coefficients: Tensor
    """[T] float64: c_i with update = sum_i c_i g_i, of any sign; 0 for a zero gradient."""
    projection: Tensor
    """[] float64, >= 0: update . u_i, for every task with a gradient; 0 where the step is zero."""
    is_reversed: Tensor
    """[] bool: the coefficients sum to -1."""


def imtl_g_coefficients(gram: Tensor, *, zero_sine_squared: float = 1e-8) -> IMTLGCoefficients:
    """IMTL-G on the Gram matrix alone, without waiting for the device.

    Gram [[1, 0], [0, 4]]: g_1 + g_2 / 2 has the product 1 with both directions, and coefficients
    with the sum 1 are [2 / 3, 1 / 3].

    Args:
        gram: [T, T] float64, finite.
        zero_sine_squared: as `zero_sine_squared_for` gives it for the gradients' dtype.

    Raises:
        TypeError: the Gram is not float64.
        ValueError: it is not square, or has no task.
    """
    check_gram(gram)
    norms, correlation = correlations(gram)
    present = norms > 0
    lengths, is_impartial = _impartial_lengths(correlation, present, zero_sine_squared)
    smallest = torch.where(present, norms, torch.inf).amin()
    shares = torch.where(present, lengths * smallest / norms, 0.0)
    total = shares.sum()
    exists = is_impartial & (total.abs() > _ROUNDING * shares.abs().sum())
    size = torch.where(exists, total.abs(), torch.inf)
    projection = torch.where(exists, smallest / size, 0.0)
    return IMTLGCoefficients(shares / size, projection, exists & (total < 0))


def _impartial_lengths(
    correlation: Tensor, present: Tensor, zero_sine_squared: float
) -> tuple[Tensor, Tensor]:
    """l [T] with sum_j l_j u_j . u_i = 1 for every task present, and [] bool: there is such an l.

    Of independent gradients there is one l. Otherwise a basis is chosen among them, for which a
    has the products 1, and l is the shortest one that makes the same vector.
    """
    tableau, waiting = eliminate(
        correlation, present[None], rounds=len(present), zero_sine_squared=zero_sine_squared
    )
    basis = present & ~waiting[0]
    expressed = torch.where(basis[:, None], tableau[0], 0.0)  # column j: u_j in the basis
    identity = torch.eye(len(present), dtype=torch.float64, device=present.device)
    both = torch.outer(basis, basis)
    spread = torch.where(both, expressed @ expressed.T, identity)
    in_basis, _ = torch.linalg.solve_ex(torch.where(both, correlation, identity), basis.double())
    shared_out, _ = torch.linalg.solve_ex(spread, in_basis)
    lengths = shared_out @ expressed
    products = correlation @ lengths
    # What was dropped as dependent may differ by its sine from what stands for it.
    norm = (lengths @ products).clamp(min=0.0).sqrt()
    errors = torch.where(present, (products - 1).abs(), 0.0)
    return lengths, errors.amax() <= 2 * zero_sine_squared**0.5 * norm


def weigh_tasks(evidence: Evidence, state: MethodState) -> tuple[TaskWeighting, MethodState]:
    """IMTL-G as a step asks for it; it remembers nothing."""
    assert evidence.gram is not None
    found = imtl_g_coefficients(evidence.gram)
    positive = found.coefficients.clamp(min=0.0)
    total = positive.sum()
    weights = positive / torch.where(total > 0, total, 1.0)
    diagnostics = {"projection": found.projection, "reversed": found.is_reversed}
    return TaskWeighting(found.coefficients, weights, diagnostics), state
