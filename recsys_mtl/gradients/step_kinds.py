"""The methods of the configuration: what a step computes, and what it decides for the tasks.

T tasks.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor

from recsys_mtl.config import GradOPS, Method, Uniform
from recsys_mtl.gradients.gram import correlations
from recsys_mtl.gradients.operations import Operations

StepKind = Literal["exact", "held", "representation", "uniform"]
"""Where the coefficients of a step come from: its own parameter gradients, an earlier step's, the
gradients at the bottom's output, or nowhere, all being 1."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What a step multiplies the tasks' gradients by, and what it knows of them."""

    weights: Tensor
    """[T] float64, w_i >= 0: for shared parameters that no product was taken of."""
    coefficients: Tensor
    """[T] float64, c_i; negative where a projection subtracts."""
    gram: Tensor
    """[T, T] float64: the products decided upon; NaN where there were none."""
    contributions: Tensor
    """[T] float64, R_i; NaN where not measured."""
    shares_kept: Tensor
    """[T] float64, |g'_i| / |g_i|; NaN where not measured."""
    conflict: Tensor
    """[] bool: some pair of tasks has a negative product."""
    used_min_norm: Tensor
    """[] bool"""
    finite: Tensor
    """[] bool: all products were finite. Where not, every number here is 0."""


def step_kind(method: Method, step: int) -> StepKind:
    """What `step` (from 0) computes; the same on every worker, and after a restart."""
    match method:
        case Uniform():
            return "uniform"
        case GradOPS(space="representation"):
            return "representation"
        case GradOPS():
            return "exact" if step % method.refresh_interval_steps == 0 else "held"
        case _:
            assert_never(method)


def audits(method: Method, step: int) -> bool:
    """Whether `step` computes the tasks' gradients only to measure a cheaper update."""
    if not isinstance(method, GradOPS) or method.space == "parameters":
        return False
    return step % method.audit_interval_steps == 0


def covers_tables(method: Method) -> bool:
    """Whether the tables move as the bottom does: by the coefficients, and in the Gram if any."""
    return isinstance(method, Uniform) or method.scope == "all"


def decide(method: Method, gram: Tensor, operations: Operations) -> Decision:
    """GradOPS on the products [T, T] of the tasks' gradients."""
    assert isinstance(method, GradOPS)
    found = operations.gradops_coefficients(gram, alpha=method.alpha)
    return Decision(
        weights=found.weights,
        coefficients=found.coefficients,
        gram=gram,
        contributions=found.contributions,
        shares_kept=found.shares_kept,
        conflict=found.conflicts.any(),
        used_min_norm=found.used_min_norm,
        finite=found.finite,
    )


def without_products(weights: Tensor, coefficients: Tensor) -> Decision:
    """The decision of a step that measures nothing."""
    unknown = torch.full_like(weights, torch.nan)
    no = torch.zeros((), dtype=torch.bool, device=weights.device)
    return Decision(
        weights=weights,
        coefficients=coefficients,
        gram=torch.full_like(weights, torch.nan).expand(len(weights), -1),
        contributions=unknown,
        shares_kept=unknown,
        conflict=no,
        used_min_norm=no,
        finite=~no,
    )


def opposes(gram: Tensor, coefficients: Tensor) -> Tensor:
    """[] bool: sum_i c_i g_i goes against some task's gradient, by more than rounding.

    Gram [[1, -1], [-1, 2]] with coefficients [1, 1] gives the products [0, 1]: it does not. With
    [1, 0.5] they are [0.5, 0], with [1, 0.4] [0.6, -0.2]: it does.
    """
    norms, correlation = correlations(gram)
    lengths = coefficients * norms
    products = correlation @ lengths
    norm = (lengths @ products).clamp(min=0.0).sqrt()
    return (products < -1e-6 * norm).any()
