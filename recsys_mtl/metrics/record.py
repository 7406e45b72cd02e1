"""What a step leaves behind: tensors on the device until the log interval, then plain numbers.

T tasks, R reasons to reject a row.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Self

import torch
from torch import Tensor

from recsys_mtl.data.features import REJECT_REASONS
from recsys_mtl.gradients.step_kinds import Decision
from recsys_mtl.metrics.phases import PHASE_BUCKETS_SECONDS, PHASES

BYTE_KINDS = ("dense_gradients", "table_inputs", "table_outputs", "table_gradients")
FLAGS = ("conflict", "used_min_norm", "skipped", "audited", "opposes")
_REJECTED_ROWS = tuple(f"rejected_rows_{reason}" for reason in REJECT_REASONS)


@dataclass(frozen=True)
class StepRecord:
    """One step, the same on every worker."""

    losses: Tensor
    """[T] mean loss over the global batch."""
    decision: Decision
    """What the method made of the tasks' gradients."""
    skipped: Tensor
    """[] bool: something was not finite, and nothing moved."""
    opposes: Tensor | None
    """[] bool: coefficients that were not computed from this step's parameter gradients would
    have gone against a task here; None where that was not measured."""
    update_norm: Tensor
    """[] of the update of all parameters that products cover, after clipping; NaN where not
    measured."""
    applied: Tensor
    """[T] `descent_cosines` of what the bottom really moved by; NaN where not measured."""
    rows: Tensor
    """[1 + R] rows of the global batch, and the rows rejected among them by reason, in the order of
    `REJECT_REASONS`."""
    stop_votes: Tensor
    """[1] workers that were asked to end training."""
    seconds: Mapping[str, float]
    """By phase, on this worker."""
    bytes_sent: Mapping[str, int]
    """Handed by this worker to collective operations, one number a kind of `BYTE_KINDS`: of dense
    gradients the buffers that are summed (a ring sends 2 (W - 1) / W of them), of tables what goes
    to other workers."""


def record_rows(
    records: Sequence[StepRecord],
    task_names: Sequence[str],
    *,
    last_step: int,
    attempt: int,
    steps_per_epoch: int,
) -> list[dict[str, Any]]:
    """Rows of the trace, one a record, the last one of step `last_step` (counted from 1).

    One transfer from the device for all of them.
    """
    numbers = torch.stack([_numbers(r, len(task_names)) for r in records]).cpu().tolist()
    rows = []
    for place, (record, values) in enumerate(zip(records, numbers, strict=True)):
        step = last_step - len(records) + 1 + place
        epoch = (step - 1) // steps_per_epoch
        row: dict[str, Any] = {"step": step, "attempt": attempt, "epoch": epoch}
        row |= dict(zip(_columns(task_names), values, strict=True))
        row |= {name: int(row[name]) for name in ("rows", *_REJECTED_ROWS)}
        row["rejected_rows"] = sum(row[name] for name in _REJECTED_ROWS)
        row |= {name: bool(row[name]) for name in FLAGS}
        row |= {f"auc_window_{task}": float("nan") for task in task_names}
        rows.append(row | {f"seconds_{p}": s for p, s in record.seconds.items()})
    return rows


def _columns(task_names: Sequence[str]) -> list[str]:
    per_task = ("loss", "weight", "contribution", "gradient_norm", "share_kept", "applied_cosine")
    return [
        "rows",
        *_REJECTED_ROWS,
        *FLAGS,
        "update_norm",
        *(f"{name}_{task}" for name in per_task for task in task_names),
        *(f"cosine_{a}_{b}" for a, b in combinations(task_names, 2)),
    ]


def _numbers(record: StepRecord, num_tasks: int) -> Tensor:
    """[columns] float64, in the order of `_columns`."""
    decision, gram = record.decision, record.decision.gram
    norms = gram.diagonal().sqrt()
    pairs = torch.triu_indices(num_tasks, num_tasks, offset=1, device=norms.device)
    cosines = (gram / torch.outer(norms, norms))[pairs[0], pairs[1]]
    audited = ~record.skipped & (record.opposes is not None)
    opposes = torch.zeros_like(record.skipped) if record.opposes is None else record.opposes
    flags = (decision.conflict, decision.used_min_norm, record.skipped, audited, opposes)
    return torch.cat(
        [
            record.rows.double(),
            torch.stack([number.double() for number in (*flags, record.update_norm)]),
            record.losses.double(),
            decision.weights,
            decision.contributions,
            norms,
            decision.shares_kept,
            record.applied,
            cosines,
        ]
    )


def _no_phase_counts() -> dict[str, list[int]]:
    return {phase: [0] * (len(PHASE_BUCKETS_SECONDS) + 1) for phase in PHASES}


@dataclass
class Totals:
    """Counts over the whole run, every step once: they travel with the checkpoint."""

    rows: int = 0
    rejected_rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REJECT_REASONS, 0))
    """By reason, each of `REJECT_REASONS`."""
    conflicting_steps: int = 0
    min_norm_steps: int = 0
    skipped_steps: int = 0
    compared_steps: int = 0
    audited_steps: int = 0
    opposing_steps: int = 0
    checkpoints: int = 0
    seconds: float = 0.0
    phase_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    """By phase, on this worker."""
    phase_counts: dict[str, list[int]] = field(default_factory=_no_phase_counts)
    """By phase, the steps of each of `PHASE_BUCKETS_SECONDS` and of what lies above the last. Each
    step is counted in one bucket alone, not in the wider ones too."""
    bytes_sent: dict[str, int] = field(default_factory=dict)
    weight_sums: dict[str, float] = field(default_factory=dict)
    nulls: dict[str, int] = field(default_factory=dict)

    def add(
        self, rows: Iterable[Mapping[str, Any]], task_names: Sequence[str], seconds: float
    ) -> None:
        """Count steps in the form of the trace's rows, and how long they took together."""
        self.seconds += seconds
        for row in rows:
            self.rows += row["rows"]
            for reason in REJECT_REASONS:
                self.rejected_rows[reason] += row[f"rejected_rows_{reason}"]
            self.conflicting_steps += row["conflict"]
            self.min_norm_steps += row["used_min_norm"]
            self.skipped_steps += row["skipped"]
            self.compared_steps += not math.isnan(row[f"gradient_norm_{task_names[0]}"])
            self.audited_steps += row["audited"]
            self.opposing_steps += row["opposes"]
            for task in task_names:
                so_far = self.weight_sums.get(task, 0.0)
                self.weight_sums[task] = so_far + row[f"weight_{task}"]
            for phase in PHASES:
                phase_seconds = row[f"seconds_{phase}"]
                self.phase_seconds[phase] += phase_seconds
                bucket = bisect_left(PHASE_BUCKETS_SECONDS, phase_seconds)
                self.phase_counts[phase][bucket] += 1

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, numbers: Mapping[str, Any]) -> Self:
        """The totals `to_json` gave."""
        return cls(**numbers)
