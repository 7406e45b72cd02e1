"""What the exporter is told of a run: its facts, and snapshots of its steps."""

from collections.abc import Sequence
from typing import Any

from recsys_mtl.exporter.snapshot import RunInfo, Snapshot
from recsys_mtl.metrics.columns import Column
from recsys_mtl.metrics.record import StepRecord, Totals, record_rows
from tests.unit.metrics.records import GRADOPS_COLUMNS, TASKS, record

INFO = RunInfo(
    run="demo",
    task_names=TASKS,
    method="gradops",
    scope="all",
    alpha=0.5,
    columns=GRADOPS_COLUMNS,
    device="cpu",
    workers=2,
    version="0.1.0",
    started_at=1_000.0,
)
NUMBERS = {
    task: {"auc": 0.7 + 0.1 * place, "log_loss": 0.3 + place, "calibration": 1.1 + place}
    for place, task in enumerate(TASKS)
}
"""What an evaluation, or a window of training steps, says of each task."""


def snapshot(
    *records: StepRecord,
    step: int = 20,
    evaluation: dict[str, Any] | None = None,
    columns: Sequence[Column] = GRADOPS_COLUMNS,
    **row: float,
) -> Snapshot:
    """Step `step` of 100 in two epochs, after these records; `row` replaces values of its row."""
    rows = record_rows(
        records or (record(),), columns, last_step=step, attempt=1, steps_per_epoch=50
    )
    totals = Totals(nulls={"price": 3, "item": 4}, outside_vocabulary={"device": 9})
    totals.add(rows, columns, seconds=2.0)
    return Snapshot(
        step=step,
        last_step=100,
        epochs=2.0,
        rows_per_second=1234.5,
        row=rows[-1] | row,
        totals=totals.to_json(),
        evaluation=evaluation or {},
    )
