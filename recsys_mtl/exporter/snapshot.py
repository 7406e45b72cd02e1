"""What rank 0 and the driver tell the exporter: plain numbers, the same whoever looks."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from recsys_mtl.metrics.columns import Column

STATES = ("running", "finished", "failed", "preempted")
State = Literal["running", "finished", "failed", "preempted"]


@dataclass(frozen=True)
class RunInfo:
    """What does not change while a run goes on."""

    run: str
    """Its name, a label of every series."""
    task_names: tuple[str, ...]
    """T tasks, in the order of every [T] tensor."""
    method: str
    """Its name."""
    scope: str
    """`gradients.scope`; empty for a method that compares no gradients."""
    alpha: float
    """`method.alpha`; NaN for a method that has none."""
    columns: tuple[Column, ...]
    """Of a step, as `trace_columns` lists them."""
    device: str
    """`cpu` or `cuda`."""
    workers: int
    version: str
    """Of this package."""
    started_at: float
    """Unix seconds: of this start of the command, not of an earlier one that it goes on from."""


@dataclass(frozen=True)
class Attempt:
    """One start of all workers."""

    key: str
    """No other attempt of the run has it."""
    sharding: tuple[str, ...]
    """Lines that say where its tables lie."""


@dataclass(frozen=True)
class CheckpointInfo:
    """The newest committed checkpoint."""

    committed_at: float
    """Unix seconds."""
    seconds: float
    """From the first tensor written to the commit; NaN where an earlier attempt made it."""
    size_bytes: float
    """Over all workers; NaN where an earlier attempt made it."""


@dataclass(frozen=True)
class Snapshot:
    """Where training stands."""

    step: int
    """Finished steps."""
    last_step: int
    """Steps at the end of the run."""
    epochs: float
    """Epochs at the end of the run."""
    rows_per_second: float
    """Over the last log interval."""
    row: Mapping[str, Any]
    """The trace's row of that step."""
    totals: Mapping[str, Any]
    """`Totals.to_json()`."""
    window: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Task to AUC, log-loss and calibration of recent training steps."""
    evaluation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Task to the numbers of the newest evaluation."""
    checkpoint: CheckpointInfo | None = None


@dataclass(frozen=True)
class RunView:
    """Everything a page is made of."""

    info: RunInfo
    state: State = "running"
    ended_at: float | None = None
    """Unix seconds."""
    attempts: tuple[Attempt, ...] = ()
    """That the workers have begun since the command was started."""
    snapshot: Snapshot | None = None
    """The newest; None before the first."""
    counts: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    """What counters show, by name and labels: the highest so far."""
    updated_at: float = field(default_factory=time.time)
    """Unix seconds: when rank 0 last reported."""

    @property
    def restarts(self) -> int:
        """Of the workers, since the command was started."""
        return max(0, len(self.attempts) - 1)


@dataclass(frozen=True)
class Status:
    """What the driver asks the exporter for."""

    port: int | None
    """None while it serves no page."""
    view: RunView
    """The newest; not yet what pages show."""
    scrapes: int
    """Pages given out."""
