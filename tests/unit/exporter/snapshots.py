"""Records of steps, and the snapshots a run sends of them."""

from typing import Any

import torch
from recsys_mtl.gradients.step_kinds import Decision, decide
from torch import Tensor

from recsys_mtl.config import GradOPS
from recsys_mtl.exporter.snapshot import RunInfo, Snapshot
from recsys_mtl.gradients import gram_matrix
from recsys_mtl.gradients.operations import operations_of
from recsys_mtl.metrics.phases import PHASES
from recsys_mtl.metrics.record import BYTE_KINDS, StepRecord, Totals, record_rows

# T tasks, P shared parameters

TASKS = ("purchase", "cart", "wish")
FACTS = RunInfo(
    run="demo",
    task_names=TASKS,
    method="gradops",
    scope="all",
    alpha=0.5,
    device="cpu",
    workers=2,
    version="0.1.0",
    started_at=1_000.0,
)
GRADOPS = GradOPS(kind="gradops")
CONFLICT = torch.tensor([[3.0, 4.0, 0.0], [-4.0, 0.0, 3.0], [0.0, 1.0, 1.0]])
"""[T, P]: cosines -0.48, 0.8 / sqrt(2) and 0.6 / sqrt(2)."""


def record(
    gradients: Tensor = CONFLICT,
    *,
    decision: Decision | None = None,
    rows: tuple[int, int, int] = (64, 2, 1),
    skipped: bool = False,
    opposes: bool | None = None,
) -> StepRecord:
    """A step with losses 0.1, 0.2, 0.3, and gradients [T, P] or another decision than theirs.

    `rows` are those of the batch, the unreadable ones and those with a bad label.
    """
    return StepRecord(
        losses=torch.tensor([0.1, 0.2, 0.3]),
        decision=decision or decide(GRADOPS, gram_matrix(gradients), operations_of("torch")),
        skipped=torch.tensor(skipped),
        opposes=None if opposes is None else torch.tensor(opposes),
        update_norm=torch.tensor(1.5, dtype=torch.float64),
        applied=torch.linspace(0.5, 1.0, len(gradients), dtype=torch.float64),
        rows=torch.tensor(rows),
        stop_votes=torch.zeros(1),
        bytes_sent=dict.fromkeys(BYTE_KINDS, 8),
        seconds={phase: 0.25 * place for place, phase in enumerate(PHASES)},
    )


def snapshot(
    *records: StepRecord, step: int = 20, evaluation: dict[str, Any] | None = None, **row: float
) -> Snapshot:
    """Step `step` of 100 in two epochs, after these records; `row` replaces values of its row."""
    rows = record_rows(records or (record(),), TASKS, last_step=step, attempt=1, steps_per_epoch=50)
    totals = Totals(nulls={"price": 3, "item": 4})
    totals.add(rows, TASKS, seconds=2.0)
    return Snapshot(
        step=step,
        last_step=100,
        epochs=2.0,
        rows_per_second=1234.5,
        row=rows[-1] | row,
        totals=totals.to_json(),
        evaluation=evaluation or {},
    )
