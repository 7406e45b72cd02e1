"""The columns of a step: the trace, the totals, the exporter and the figure all read this list.

It imports no torch, since the exporter, which is handed columns, starts without it.

T tasks, L layers and tables.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from recsys_mtl.config import UserError
from recsys_mtl.data.features import REJECT_REASONS
from recsys_mtl.metrics.phases import PHASES

if TYPE_CHECKING:
    from recsys_mtl.gradients.methods.contract import Diagnostic

ColumnKind = Literal["count", "flag", "number"]

# The exporter's families `recsys_mtl_task_<name>` and `recsys_mtl_<name>_steps_total` of every run,
# besides those whose name is a column's quantity.
_NAMES_OF_FAMILIES = frozenset({"auc", "calibration", "compared", "conflicting", "opposing"})

TABLE_PREFIX = "tables."
"""What tells a table from a layer: it is `tables.<feature that owns it>`, as in checkpoints."""

_HELP_OF_PAIRS = {
    "conflicting_pairs": "Pairs of tasks whose gradients of the layer have a cosine below "
    "recon.threshold.",
    "compared_pairs": "Pairs of tasks that both have a gradient of the layer.",
}


@dataclass(frozen=True)
class Column:
    """One column of the trace."""

    quantity: str
    """What is measured, in snake case. One column per task, or per pair of tasks, may share it."""
    kind: ColumnKind
    """A count is an integer, a flag a bool, and a number a float: NaN where it was not measured."""
    help: str
    """One sentence, which dashboards and pictures show."""
    tasks: tuple[str, ...] = ()
    """The task or the pair of tasks that it belongs to; empty for a number of the whole step."""
    seldom: bool = False
    """Whether only some steps measure it. A page then shows the newest value that was measured."""
    of_method: bool = False
    """Whether it is a diagnostic of the method, which runs with other methods do not have."""
    layer: str = ""
    """The layer or table that it belongs to; empty for a number of the whole model."""

    @property
    def name(self) -> str:
        """The column's name in the trace."""
        return "_".join((self.quantity, *self.tasks, *filter(None, [self.layer])))


def trace_columns(
    task_names: Sequence[str], diagnostics: Iterable[Diagnostic], layers: Sequence[str] = ()
) -> list[Column]:
    """All columns of a run's trace, in their order.

    Columns of one quantity stand together, in the order of the tasks or of their pairs. With tasks
    `a` and `b` the quantity `loss` has the columns `loss_a` and `loss_b`, and `cosine` has
    `cosine_a_b`.

    Args:
        task_names: the T tasks.
        diagnostics: what the method reports.
        layers: the L layers and tables in which a run with the section `recon` counts conflicts.

    Raises:
        UserError: a diagnostic cannot have its name or kind, or two columns would have one name.
    """
    diagnostics = tuple(diagnostics)
    before = (
        *_progress_columns(),
        *_step_columns(),
        *_task_columns(task_names),
        *_layer_columns(layers),
    )
    after = _report_columns(task_names)
    taken = {column.quantity for column in (*before, *after)} | _NAMES_OF_FAMILIES
    for diagnostic in diagnostics:
        _refuse_unusable(diagnostic, taken)
        taken.add(diagnostic.name)
    of_method = [column for d in diagnostics for column in _diagnostic_columns(d, task_names)]
    columns = [*before, *of_method, *after]
    _refuse_same_names(columns)
    return columns


def _progress_columns() -> list[Column]:
    return [
        Column("step", "count", "Finished steps, this one included."),
        Column("attempt", "count", "The start of all workers that made it, counted from 1."),
        Column("epoch", "count", "The epoch, counted from 0."),
    ]


def _step_columns() -> list[Column]:
    rejected = [
        Column(f"rejected_rows_{reason}", "count", f"Rows left out for the reason: {reason}.")
        for reason in REJECT_REASONS
    ]
    return [
        Column(
            "learning_rate_factor",
            "number",
            "What warm-up and schedule multiply the learning rates by.",
        ),
        Column("rows", "count", "Rows of the global batch."),
        *rejected,
        Column("conflict", "flag", "Two tasks' gradients have a negative product."),
        Column("skipped", "flag", "Something was not finite, and nothing moved."),
        Column(
            "audited",
            "flag",
            "Coefficients that were not made from this step's gradients were compared with them.",
        ),
        Column("opposes", "flag", "The audited coefficients go against a task's gradient."),
        Column(
            "update_norm", "number", "Norm of the combined gradient after clipping.", seldom=True
        ),
    ]


def _task_columns(task_names: Sequence[str]) -> list[Column]:
    pairs = list(combinations(task_names, 2))
    help_of_pairs = "Cosine of two tasks' gradients of the shared parameters."
    return [
        *_per_task(
            "loss",
            "Mean loss over the global batch, by sample_weight where there is one (nats per row).",
            task_names,
        ),
        *(
            Column("labelled", "count", "Rows of the global batch that count for the task.", (t,))
            for t in task_names
        ),
        *_per_task("weight", "Weight w_i of the task's gradient.", task_names),
        *_per_task(
            "coefficient",
            "What multiplies the task's gradient in the update of all parameters in the Gram.",
            task_names,
        ),
        *_per_task(
            "gradient_norm",
            "Norm of the task's gradient of the shared parameters.",
            task_names,
            seldom=True,
        ),
        *_per_task(
            "applied_cosine",
            "Cosine of the body's applied change with the task's descent direction.",
            task_names,
            seldom=True,
        ),
        *(Column("cosine", "number", help_of_pairs, pair, seldom=True) for pair in pairs),
    ]


def _layer_columns(layers: Sequence[str]) -> list[Column]:
    return [
        Column(quantity, "number", text, seldom=True, layer=layer)
        for quantity, text in _HELP_OF_PAIRS.items()
        for layer in layers
    ]


def layer_column(name: str) -> Column | None:
    """The column of this name, where it is one of a layer or table.

    So a trace can be read whose layers are not known otherwise.
    """
    for quantity, text in _HELP_OF_PAIRS.items():
        layer = name.removeprefix(f"{quantity}_")
        if layer != name:
            return Column(quantity, "number", text, seldom=True, layer=layer)
    return None


def _report_columns(task_names: Sequence[str]) -> list[Column]:
    return [
        Column("rejected_rows", "count", "Rows left out as unusable."),
        *_per_task("auc_window", "Training AUC over a window of steps.", task_names, seldom=True),
        *(Column(f"seconds_{p}", "number", f"Seconds of phase {p}, on rank 0.") for p in PHASES),
    ]


def _per_task(
    quantity: str, text: str, task_names: Sequence[str], *, seldom: bool = False
) -> list[Column]:
    return [Column(quantity, "number", text, (task,), seldom) for task in task_names]


def _diagnostic_columns(diagnostic: Diagnostic, task_names: Sequence[str]) -> list[Column]:
    kind: ColumnKind = "flag" if diagnostic.flag else "number"
    places: list[tuple[str, ...]] = [(t,) for t in task_names] if diagnostic.per_task else [()]
    return [
        Column(
            diagnostic.name, kind, diagnostic.help, tasks, seldom=kind == "number", of_method=True
        )
        for tasks in places
    ]


def _refuse_unusable(diagnostic: Diagnostic, taken: set[str]) -> None:
    """Raises UserError for a diagnostic that trace or exporter could not show."""
    name = diagnostic.name
    if re.fullmatch(r"[a-z][a-z0-9_]*", name) is None:
        raise UserError(
            f"the method's diagnostic {name!r} is no name of a column; write it in snake case, "
            "with small letters, digits and underscores"
        )
    if name in taken:
        raise UserError(
            f"the method's diagnostic {name!r} has the name of another number of the run; give it "
            "a name of its own"
        )
    if diagnostic.flag and diagnostic.per_task:
        raise UserError(
            f"the method's diagnostic {name!r} is a flag per task, and a flag is one for the whole "
            "step; declare it with per_task=False, or as a number"
        )


def _refuse_same_names(columns: Sequence[Column]) -> None:
    """Raises UserError where task names and quantities run together into one column name."""
    name, count = Counter(column.name for column in columns).most_common(1)[0]
    if count == 1:
        return
    meanings = [
        f"{c.quantity!r} of {c.layer or ' and '.join(c.tasks)}"
        if c.layer or c.tasks
        else f"{c.quantity!r}"
        for c in columns
        if c.name == name
    ]
    raise UserError(
        f"the trace would have {count} columns {name!r}, {' and '.join(meanings)}; rename a task "
        "in data.labels, or the method's diagnostic"
    )
