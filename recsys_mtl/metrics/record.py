"""What a step leaves behind: tensors on the device until the log interval, then plain numbers.

T tasks, R reasons to reject a row, L layers and tables.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from recsys_mtl.data.features import REJECT_REASONS
from recsys_mtl.gradients.conflicts import PairCounts
from recsys_mtl.gradients.methods.contract import TaskWeighting
from recsys_mtl.metrics.columns import Column
from recsys_mtl.metrics.phases import PHASE_BUCKETS_SECONDS, PHASES

BYTE_KINDS = ("dense_gradients", "table_inputs", "table_outputs", "table_gradients")


@dataclass(frozen=True)
class StepRecord:
    """What one step leaves behind. Seconds and bytes are a worker's own, the rest is shared."""

    losses: Tensor
    """[T] The mean loss over the global batch, without the tasks' loss_weight."""
    labelled: Tensor
    """[T] Rows of the global batch that count for each task."""
    weighting: TaskWeighting
    """What the tasks' gradients were multiplied by, and what the method reported, if asked."""
    gram: Tensor | None
    """[T, T] float64: products of the tasks' gradients; None where none were taken."""
    skipped: Tensor
    """[] bool: something was not finite, and nothing moved."""
    opposes: Tensor | None
    """[] bool: coefficients that were not computed from this step's parameter gradients would
    have gone against a task here; None where that was not measured."""
    update_norm: Tensor
    """[] The norm of the update of all parameters in the Gram, after clipping; NaN where it was not
    measured."""
    learning_rate_factor: float
    """What warm-up and schedule multiplied the learning rates by."""
    applied: Tensor
    """[T] `descent_cosines` of what the body really moved by; NaN where it was not measured."""
    rows: Tensor
    """[1 + R] The rows of the global batch, and the rows rejected among them by reason, in the
    order of `REJECT_REASONS`."""
    seconds: Mapping[str, float]
    """This worker's seconds by phase."""
    bytes_sent: Mapping[str, int]
    """What this worker handed to collective operations, by kind, as in `BYTE_KINDS`: of dense
    gradients the buffers that are summed (a ring sends 2 (W - 1) / W of them), of tables what goes
    to other workers."""
    conflicts: PairCounts | None = None
    """Pairs of tasks in each layer and table; None where the step did not count them."""


def record_rows(
    records: Sequence[StepRecord],
    columns: Sequence[Column],
    *,
    last_step: int,
    attempt: int,
    steps_per_epoch: int,
) -> list[dict[str, Any]]:
    """Makes one row of the trace per record, the last one that of step `last_step`.

    All records together take one transfer from the device. `auc_window` is NaN, as whoever asked
    for the rows measures it.

    Args:
        records: of consecutive steps, at least one.
        columns: of the trace, as `trace_columns` lists them.
        last_step: counted from 1.
    """
    measured = [_measured(record) for record in records]
    on_device = [c for c in columns if c.of_method or c.layer or c.quantity in measured[0]]
    widths = Counter(column.quantity for column in on_device)
    numbers = torch.stack([_side_by_side(quantities, widths) for quantities in measured])
    rows = []
    for place, (record, values) in enumerate(zip(records, numbers.cpu().tolist(), strict=True)):
        step = last_step - len(records) + 1 + place
        epoch = (step - 1) // steps_per_epoch
        row: dict[str, Any] = {"step": step, "attempt": attempt, "epoch": epoch}
        row["learning_rate_factor"] = record.learning_rate_factor
        row |= {c.name: _as_kind(c, value) for c, value in zip(on_device, values, strict=True)}
        row["rejected_rows"] = sum(row[f"rejected_rows_{reason}"] for reason in REJECT_REASONS)
        row |= {c.name: math.nan for c in columns if c.quantity == "auc_window"}
        rows.append(row | {f"seconds_{p}": s for p, s in record.seconds.items()})
    return rows


def _as_kind(column: Column, value: float) -> float | int | bool:
    match column.kind:
        case "count":
            return int(value)
        case "flag":
            return value > 0  # NaN, where the method was not asked, is no flag
        case "number":
            return value


def _measured(record: StepRecord) -> dict[str, Tensor]:
    """What a step has measured, by the quantity of its columns, on the device."""
    gram, num_tasks = record.gram, len(record.losses)
    if gram is None:
        gram = torch.full_like(record.losses, torch.nan, dtype=torch.float64).expand(num_tasks, -1)
    norms = gram.diagonal().sqrt()
    first, second = torch.triu_indices(num_tasks, num_tasks, offset=1, device=gram.device)
    products = gram[first, second]
    opposes = torch.zeros_like(record.skipped) if record.opposes is None else record.opposes
    rows, *rejected = record.rows.unbind()
    return {
        "rows": rows,
        **dict(zip((f"rejected_rows_{r}" for r in REJECT_REASONS), rejected, strict=True)),
        "conflict": (products < 0).any(),
        "skipped": record.skipped,
        "audited": ~record.skipped & (record.opposes is not None),
        "opposes": opposes,
        "update_norm": record.update_norm,
        "loss": record.losses,
        "labelled": record.labelled,
        "weight": record.weighting.weights,
        "coefficient": record.weighting.coefficients,
        "gradient_norm": norms,
        "applied_cosine": record.applied,
        "cosine": products / (norms[first] * norms[second]),
        **_measured_pairs(record),
        **record.weighting.diagnostics,
    }


def _measured_pairs(record: StepRecord) -> dict[str, Tensor]:
    """[L] each: pairs of tasks in each layer and table; a step that was not taken counts none."""
    if record.conflicts is None:
        return {}
    counts = {
        "conflicting_pairs": record.conflicts.conflicting,
        "compared_pairs": record.conflicts.compared,
    }
    return {name: torch.where(record.skipped, torch.nan, n.double()) for name, n in counts.items()}


def _side_by_side(quantities: Mapping[str, Tensor], widths: Mapping[str, int]) -> Tensor:
    """The columns of one row, [columns] float64.

    Args:
        widths: quantity to the number of its columns, in their order. What `quantities` lacks is
            NaN: a diagnostic, where the step did not ask the method, or pairs outside a search.
    """
    unmeasured = torch.full_like(quantities["update_norm"], torch.nan, dtype=torch.float64)
    return torch.cat(
        [
            quantities[quantity].double().reshape(-1)
            if quantity in quantities
            else unmeasured.expand(width)
            for quantity, width in widths.items()
        ]
    )


def _no_phase_counts() -> dict[str, list[int]]:
    return {phase: [0] * (len(PHASE_BUCKETS_SECONDS) + 1) for phase in PHASES}


@dataclass
class Totals:
    """Counts over the whole run, with every step counted once. A checkpoint holds them."""

    rows: int = 0
    rejected_rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REJECT_REASONS, 0))
    """Rows left out, by reason: each of `REJECT_REASONS`."""
    conflicting_steps: int = 0
    skipped_steps: int = 0
    compared_steps: int = 0
    audited_steps: int = 0
    opposing_steps: int = 0
    method_flag_steps: dict[str, int] = field(default_factory=dict)
    """The steps in which a flag of the method was true, by its name."""
    checkpoints: int = 0
    seconds: float = 0.0
    phase_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    """This worker's seconds, by phase."""
    phase_counts: dict[str, list[int]] = field(default_factory=_no_phase_counts)
    """The steps per bucket, by phase: one bucket for each of `PHASE_BUCKETS_SECONDS` and one for
    what lies above the last. A step is counted in one bucket alone, not in the wider ones too."""
    bytes_sent: dict[str, int] = field(default_factory=dict)
    """What all workers handed to collective operations, by kind."""
    labelled_steps: dict[str, int] = field(default_factory=dict)
    """By task, the steps in which it had a gradient: some row counted for it, and the step was not
    skipped."""
    weight_sums: dict[str, float] = field(default_factory=dict)
    """The sum of a task's weights over its labelled steps, by task."""
    nulls: dict[str, int] = field(default_factory=dict)
    """Nulls met over all workers, by column of the log."""
    outside_vocabulary: dict[str, int] = field(default_factory=dict)
    """Rows with a value that the vocabulary lacks, over all workers, by one_hot feature."""
    search_steps: int = 0
    """Steps that counted conflicting pairs; a skipped one does not."""
    conflicting_pairs: dict[str, int] = field(default_factory=dict)
    """By layer and table, the pairs of tasks that conflicted there, summed over those steps."""
    compared_pairs: dict[str, int] = field(default_factory=dict)
    """The same of the pairs that could have conflicted."""

    def add(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], seconds: float
    ) -> None:
        """Counts steps in the form of the trace's rows.

        Args:
            columns: of the rows.
            seconds: that the steps took together.
        """
        self.seconds += seconds
        flags = [column.name for column in columns if column.of_method and column.kind == "flag"]
        tasks = [column.tasks[0] for column in columns if column.quantity == "weight"]
        self.method_flag_steps |= {f: self.method_flag_steps.get(f, 0) for f in flags}
        pairs = [column for column in columns if column.layer]
        for row in rows:
            self.rows += row["rows"]
            for reason in REJECT_REASONS:
                self.rejected_rows[reason] += row[f"rejected_rows_{reason}"]
            self.conflicting_steps += row["conflict"]
            for flag in flags:
                self.method_flag_steps[flag] += row[flag]
            self.skipped_steps += row["skipped"]
            self.compared_steps += not math.isnan(row[f"gradient_norm_{tasks[0]}"])
            self.audited_steps += row["audited"]
            self.opposing_steps += row["opposes"]
            self.search_steps += bool(pairs) and not math.isnan(row[pairs[0].name])
            self._add_pairs(row, pairs)
            for task in tasks:
                had_gradient = row[f"labelled_{task}"] > 0 and not row["skipped"]
                weight = row[f"weight_{task}"] if had_gradient else 0.0
                self.labelled_steps[task] = self.labelled_steps.get(task, 0) + had_gradient
                self.weight_sums[task] = self.weight_sums.get(task, 0.0) + weight
            for phase in PHASES:
                phase_seconds = row[f"seconds_{phase}"]
                self.phase_seconds[phase] += phase_seconds
                bucket = bisect_left(PHASE_BUCKETS_SECONDS, phase_seconds)
                self.phase_counts[phase][bucket] += 1

    def _add_pairs(self, row: Mapping[str, Any], columns: Sequence[Column]) -> None:
        """Counts one step's pairs of each layer and table: none, where it did not count any."""
        counts = {
            "conflicting_pairs": self.conflicting_pairs,
            "compared_pairs": self.compared_pairs,
        }
        for column in columns:
            counted, pairs = counts[column.quantity], row[column.name]
            counted.setdefault(column.layer, 0)
            counted[column.layer] += 0 if math.isnan(pairs) else int(pairs)

    def to_json(self) -> dict[str, Any]:
        """Returns plain numbers, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, numbers: Mapping[str, Any]) -> Self:
        """Makes the totals of what `to_json` returned."""
        return cls(**numbers)
