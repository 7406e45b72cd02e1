"""Every number of a step, once: the trace, the exporter, the figure and the totals read this list.

Imports no torch: the exporter, which starts without it, is handed columns.

T tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from recsys_mtl.data.features import REJECT_REASONS
from recsys_mtl.metrics.phases import PHASES

if TYPE_CHECKING:
    from recsys_mtl.gradients.methods.contract import Diagnostic

ColumnKind = Literal["count", "flag", "number"]


@dataclass(frozen=True)
class Column:
    """One column of the trace."""

    quantity: str
    """What is measured, in snake case; several columns may hold it, for several tasks."""
    kind: ColumnKind
    """An integer, a bool, or a float with NaN where it was not measured."""
    help: str
    """One sentence."""
    tasks: tuple[str, ...] = ()
    """None for a number of the whole step, one task, or a pair of them."""
    seldom: bool = False
    """Measured at some steps only; whoever shows the newest value shows the last measured one."""
    of_method: bool = False
    """One of the method's own diagnostics, which other methods do not have."""

    @property
    def name(self) -> str:
        """In the trace."""
        return "_".join((self.quantity, *self.tasks))


def step_columns(task_names: Sequence[str], diagnostics: Iterable[Diagnostic]) -> list[Column]:
    """What the step itself measures, on the device.

    Columns of one quantity stand together, in the order of tasks or of their pairs.
    """
    rejected = [
        Column(f"rejected_rows_{reason}", "count", f"Rows left out: {reason}.")
        for reason in REJECT_REASONS
    ]
    flags = [
        Column("conflict", "flag", "Two tasks' gradients have a negative product."),
        Column("skipped", "flag", "Something was not finite, and nothing moved."),
        Column("audited", "flag", "Coefficients of elsewhere were held to this step's gradients."),
        Column("opposes", "flag", "An audited combination goes against a task's gradient."),
    ]
    norm = Column(
        "update_norm", "number", "Norm of the combined gradient, after clipping.", seldom=True
    )
    return [
        Column("rows", "count", "Rows of the global batch."),
        *rejected,
        *flags,
        norm,
        *_of_tasks("loss", "Mean loss over the global batch (nats per row).", task_names),
        *_of_tasks("weight", "Weight w_i of the task's gradient.", task_names),
        *_of_tasks("coefficient", "What multiplies the task's gradient in the update.", task_names),
        *_of_tasks(
            "gradient_norm",
            "Norm of the task's gradient of the shared parameters.",
            task_names,
            seldom=True,
        ),
        *_of_tasks(
            "applied_cosine",
            "Cosine of the body's applied change with the task's descent direction.",
            task_names,
            seldom=True,
        ),
        *(
            Column(
                "cosine",
                "number",
                "Cosine of two tasks' gradients of the shared parameters.",
                pair,
                seldom=True,
            )
            for pair in combinations(task_names, 2)
        ),
        *(column for diagnostic in diagnostics for column in _of_method(diagnostic, task_names)),
    ]


def trace_columns(task_names: Sequence[str], diagnostics: Iterable[Diagnostic]) -> list[Column]:
    """All columns of the trace, in their order."""
    return [
        Column("step", "count", "Finished steps, this one included."),
        Column("attempt", "count", "Which start of all workers made it, from 1."),
        Column("epoch", "count", "From 0."),
        *step_columns(task_names, diagnostics),
        Column("rejected_rows", "count", "Rows left out as unusable."),
        *_of_tasks("auc_window", "Training AUC over a window of steps.", task_names, seldom=True),
        *(Column(f"seconds_{p}", "number", f"Seconds of phase {p}, on rank 0.") for p in PHASES),
    ]


def _of_tasks(
    quantity: str, text: str, task_names: Sequence[str], *, seldom: bool = False
) -> list[Column]:
    return [Column(quantity, "number", text, (task,), seldom) for task in task_names]


def _of_method(diagnostic: Diagnostic, task_names: Sequence[str]) -> list[Column]:
    kind: ColumnKind = "flag" if diagnostic.flag else "number"
    return [
        Column(diagnostic.name, kind, diagnostic.help, tasks, not diagnostic.flag, of_method=True)
        for tasks in ([(task,) for task in task_names] if diagnostic.per_task else [()])
    ]
