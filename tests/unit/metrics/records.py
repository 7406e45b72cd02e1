"""Records of steps, as a method of weighing tasks leaves them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recsys_mtl.gradients import gram_matrix
from recsys_mtl.gradients.methods import gradops
from recsys_mtl.gradients.methods.contract import Diagnostic, Evidence, TaskWeighting
from recsys_mtl.metrics.columns import trace_columns
from recsys_mtl.metrics.phases import PHASES
from recsys_mtl.metrics.record import BYTE_KINDS, StepRecord

# T tasks, P shared parameters

TASKS = ("purchase", "cart", "wish")
CONFLICT = torch.tensor([[3.0, 4.0, 0.0], [-4.0, 0.0, 3.0], [0.0, 1.0, 1.0]])
"""[T, P]: cosines -0.48, 0.8 / sqrt(2) and 0.6 / sqrt(2)."""
GRADOPS_COLUMNS = tuple(trace_columns(TASKS, gradops.DIAGNOSTICS))
UNIFORM_COLUMNS = tuple(trace_columns(TASKS, ()))

MADE_UP = (
    Diagnostic("pull", "How hard the task pulls."),
    Diagnostic("step_radius", "How far the step may go.", per_task=False),
    Diagnostic("cornered", "The step had nowhere to go.", per_task=False, flag=True),
)
"""What a method that nothing in the project knows might report."""
MADE_UP_COLUMNS = tuple(trace_columns(TASKS, MADE_UP))


def weighting(
    weights: Sequence[float] = (1.0, 1.0, 1.0),
    coefficients: Sequence[float] | None = None,
    **diagnostics: float | bool | Sequence[float],
) -> TaskWeighting:
    """What a method gives back; coefficients are the weights unless they are given."""
    return TaskWeighting(
        coefficients=torch.tensor(coefficients or weights, dtype=torch.float64),
        weights=torch.tensor(weights, dtype=torch.float64),
        diagnostics={name: torch.tensor(value) for name, value in diagnostics.items()},
    )


def record(
    gradients: Tensor = CONFLICT,
    *,
    weighed: TaskWeighting | None = None,
    compared: bool = True,
    rows: tuple[int, ...] = (64, 2, 1, 0, 0, 0),
    skipped: bool = False,
    opposes: bool | None = None,
    labelled: tuple[int, int, int] = (60, 61, 62),
) -> StepRecord:
    """A step with losses 0.1, 0.2, 0.3 and gradients [T, P].

    Args:
        weighed: GradOPS with alpha 0 unless given.
        compared: whether the step took products of the gradients.
        rows: of the batch, the unreadable ones, those with a bad label, and so on.
        labelled: rows that count for each task.
    """
    gram = gram_matrix(gradients)
    if weighed is None:
        evidence = Evidence(step=0, seed=0, labelled=torch.ones(len(gram)).bool(), gram=gram)
        weighed, _ = gradops.weigh_tasks(evidence, {}, alpha=0.0)
    return StepRecord(
        losses=torch.tensor([0.1, 0.2, 0.3]),
        labelled=torch.tensor(labelled),
        weighting=weighed,
        gram=gram if compared else None,
        skipped=torch.tensor(skipped),
        opposes=None if opposes is None else torch.tensor(opposes),
        learning_rate_factor=0.75,
        update_norm=torch.tensor(1.5, dtype=torch.float64),
        applied=torch.linspace(0.5, 1.0, len(gradients), dtype=torch.float64),
        rows=torch.tensor(rows),
        bytes_sent=dict.fromkeys(BYTE_KINDS, 8),
        seconds={phase: 0.25 * place for place, phase in enumerate(PHASES)},
    )
