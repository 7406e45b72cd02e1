"""What one step computes, as the configuration and the number of the step decide it."""

from dataclasses import dataclass, replace
from typing import Literal

from recsys_mtl.config import Gradients

WeightingSource = Literal["parameters", "representation", "cache", "losses"]
"""Where the coefficients of a step come from: products of its own parameter gradients, products at
the representation, an earlier step, or no products at all."""


@dataclass(frozen=True)
class StepMode:
    """The same on every worker, and after a restart."""

    step: int
    """From 0."""
    weighting: WeightingSource
    row_per_task: bool
    """One backward through the trunk, and one row of gradients, for each task instead of one for
    the combination; with them their products."""
    audits: bool
    """Whether the products also tell what coefficients that were not made from them would do: the
    cached ones that a refresh replaces, or those from the representation."""
    searches: bool = False
    """Whether the step counts the tasks' conflicts in each layer and table (Recon)."""


def step_mode(
    gradients: Gradients, compares_gradients: bool, step: int, *, search_steps: int = 0
) -> StepMode:
    """What `step` (from 0) computes.

    Args:
        compares_gradients: whether the method reads products of the tasks' gradients at all.
        search_steps: how many steps of the run count conflicts, from the first on. Where weights
            come from does not change by it.
    """
    mode = _without_search(gradients, compares_gradients, step)
    return replace(mode, row_per_task=True, searches=True) if step < search_steps else mode


def _without_search(gradients: Gradients, compares_gradients: bool, step: int) -> StepMode:
    if not compares_gradients:
        return StepMode(step, "losses", row_per_task=False, audits=False)
    if gradients.space == "representation":
        audits = step % gradients.audit_interval_steps == 0
        return StepMode(step, "representation", row_per_task=audits, audits=audits)
    interval = gradients.refresh_interval_steps
    if step % interval:
        return StepMode(step, "cache", row_per_task=False, audits=False)
    return StepMode(step, "parameters", row_per_task=True, audits=interval > 1 and step > 0)


def steps_until_next_rows(gradients: Gradients, compares_gradients: bool) -> int:
    """How many steps lie between two that have one row of gradients per task; 1 where none has."""
    if not compares_gradients:
        return 1
    at_representation = gradients.space == "representation"
    return gradients.audit_interval_steps if at_representation else gradients.refresh_interval_steps
