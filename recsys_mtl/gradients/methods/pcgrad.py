"""PCGrad: every gradient off those of the others that it conflicts with, one after the other.

Source: Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, Algorithm 1. There are
no hyperparameters. As there, the update is the sum of the projected gradients, not their mean: a
coefficient is 1 where nothing conflicts with the task and can be above 1 elsewhere, and their sum
is nothing in particular. With two tasks no update goes against one; with more it may, since a later
projection can undo an earlier one.

Two things differ from the paper. All is done on the Gram matrix, so that no gradient is projected
as a vector. A task with a zero gradient is left out: it has coefficient 0, and the others are as if
it were not there.
"""

# T tasks; round k projects every task's gradient off that of the k-th other task of its own order

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys_mtl.gradients.gram import correlations
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
        "share_kept", "Norm of the task's gradient after its projections over the norm before."
    ),
)

_TASK_ORDER = 2  # separates these draws from the orders of rows and the dropout of the same seed


@dataclass(frozen=True, eq=False)
class PCGradCoefficients:
    """PCGrad on the Gram matrix: what to multiply each task's gradient by, and what is kept."""

    coefficients: Tensor
    """[T] float64: c_i >= 0 with update = sum_i c_i g_i; 0 for a zero gradient."""
    shares_kept: Tensor
    """[T] float64: |g_i^PC| / |g_i|, from 0 to 1; 0 for a zero gradient."""


def pcgrad_coefficients(gram: Tensor, order: Tensor) -> PCGradCoefficients:
    """PCGrad on the Gram matrix alone, without waiting for the device.

    Gram [[1, -1], [-1, 2]] with order [[1], [0]]: g_1 has the product -1 with g_2, whose square is
    2, and becomes g_1 + g_2 / 2; g_2 becomes g_2 + g_1. The coefficients are [2, 1.5].

    No coefficient is negative: each begins with 1 for its task's own gradient, and a projection is
    made only where a product is negative, so that it adds a positive multiple of the other
    gradient.

    Args:
        gram: [T, T] float64, finite.
        order: [T, T - 1] int64: in row i all other tasks, in the order of task i's projections.
    """
    norms, correlation = correlations(gram)
    combinations = project_in_order(correlation, order)
    coefficients = torch.where(norms > 0, norms @ combinations / norms, 0.0)
    return PCGradCoefficients(coefficients, shares_kept(correlation, combinations))


def project_in_order(correlation: Tensor, order: Tensor) -> Tensor:
    """Each g_i^PC / |g_i| as a combination of unit gradients, so that no ratio of norms is lost.

    Args:
        correlation: [T, T] float64, as `correlations` returns it.
        order: [T, T - 1] int64, as in `pcgrad_coefficients`.

    Returns:
        [T, T] float64, row i for task i; no entry is negative.
    """
    tasks = torch.arange(len(correlation), device=correlation.device)
    combinations = torch.eye(len(correlation), dtype=torch.float64, device=correlation.device)
    for others in order.unbind(dim=1):
        is_other = tasks == others[:, None]
        products = torch.where(is_other, combinations @ correlation, 0.0)
        combinations = combinations + products.clamp(max=0.0).neg()
    return combinations


def shares_kept(correlation: Tensor, combinations: Tensor) -> Tensor:
    """[T] |g_i^PC| / |g_i| for the combinations of unit gradients that `project_in_order` gives."""
    squared = (combinations @ correlation * combinations).sum(dim=1)
    return squared.clamp(0.0, 1.0).sqrt()


def draw_order(num_tasks: int, seed: int, step: int) -> Tensor:
    """An order for every task, [T, T - 1] int64 on the CPU, from (seed, step) alone.

    Each row is a permutation of the other tasks, all equally likely and none told by another row.
    No numpy release changes it: bit generators and SeedSequence are promised to be stable (NEP 19).
    """
    sequence = np.random.SeedSequence((seed, step, _TASK_ORDER))
    bits = np.random.Philox(sequence).random_raw(num_tasks * (num_tasks - 1))
    places = np.argsort(bits.reshape(num_tasks, num_tasks - 1), axis=1, kind="stable")
    itself = np.arange(num_tasks)[:, None]
    # By way of a list: fake tensors, which tests trace steps with, cannot share numpy's memory.
    others = (places + (places >= itself)).tolist()
    return torch.tensor(others, dtype=torch.int64).view(num_tasks, num_tasks - 1)


def order_of_step(evidence: Evidence) -> Tensor:
    """The order of a step's projections, [T, T - 1] int64 on the device of its Gram."""
    assert evidence.gram is not None
    order = draw_order(len(evidence.gram), evidence.seed, evidence.step)
    # Without non_blocking the host would wait until the device has done all that came before.
    return order.to(evidence.gram.device, non_blocking=True)


def weigh_tasks(evidence: Evidence, state: MethodState) -> tuple[TaskWeighting, MethodState]:
    """PCGrad as a step asks for it, with an order of its own for each step; it remembers nothing.

    Weights are the coefficients, as those are never negative.
    """
    gram = evidence.gram
    assert gram is not None
    found = pcgrad_coefficients(gram, order_of_step(evidence))
    diagnostics = {"share_kept": found.shares_kept}
    return TaskWeighting(found.coefficients, found.coefficients, diagnostics), state
