"""The plain sum of the tasks' losses: every task counts the same, and no gradients are compared."""

# T tasks

import torch

from recsys_mtl.gradients.methods.contract import (
    Diagnostic,
    Evidence,
    MethodState,
    Need,
    TaskWeighting,
)

NEEDS: frozenset[Need] = frozenset()
DIAGNOSTICS: tuple[Diagnostic, ...] = ()


def weigh_tasks(evidence: Evidence, state: MethodState) -> tuple[TaskWeighting, MethodState]:
    """Weight and coefficient 1 for each task: they sum to T."""
    ones = torch.ones_like(evidence.labelled, dtype=torch.float64)
    return TaskWeighting(coefficients=ones, weights=ones), state
