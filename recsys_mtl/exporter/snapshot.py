"""What rank 0 and the driver tell the exporter, in plain numbers."""

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
    """The run's name, a label of every series."""
    task_names: tuple[str, ...]
    """T tasks, in the order of every [T] tensor."""
    method: str
    """The method's name."""
    scope: str
    """`gradients.scope`; empty for a method that compares no gradients."""
    alpha: float
    """`method.alpha`; NaN for a method that has none."""
    columns: tuple[Column, ...]
    """The trace's columns, as `trace_columns` lists them, with what the method reports."""
    device: str
    """`cpu` or `cuda`."""
    workers: int
    """Ray Train workers."""
    version: str
    """This package's version."""
    started_at: float
    """When this command was started, in Unix seconds; not an earlier one that it goes on from."""


@dataclass(frozen=True)
class Attempt:
    """One start of all workers."""

    key: str
    """Tells the attempts of a run apart."""
    sharding: tuple[str, ...]
    """Lines that say where the tables lie."""
    warm_start: tuple[str, ...] = ()
    """Lines that say what was taken from another run; none where the run goes on."""


@dataclass(frozen=True)
class CheckpointInfo:
    """The newest committed checkpoint."""

    committed_at: float
    """When it was committed, in Unix seconds."""
    seconds: float
    """How long it took from the first tensor written; NaN where an earlier attempt made it."""
    size_bytes: float
    """Its size over all workers; NaN where an earlier attempt made it."""


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
    """Rows that all workers trained per second of the last log interval."""
    row: Mapping[str, Any]
    """The trace's row of that step, with the newest measured value of columns that are seldom
    measured: NaN where there is none."""
    totals: Mapping[str, Any]
    """`Totals.to_json()`."""
    window: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Task to AUC, log-loss and calibration of recent training steps."""
    evaluation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Task to the numbers of the newest evaluation."""
    checkpoint: CheckpointInfo | None = None
    """The newest; None before the first."""


@dataclass(frozen=True)
class RunView:
    """Everything a page is made of."""

    info: RunInfo
    state: State = "running"
    ended_at: float | None = None
    """When the run ended, in Unix seconds; None while it goes on."""
    attempts: tuple[Attempt, ...] = ()
    """The starts of all workers since the command was started."""
    snapshot: Snapshot | None = None
    """The newest; None before the first."""
    counts: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    """What counters show, by name and labels: the highest so far."""
    updated_at: float = field(default_factory=time.time)
    """When rank 0 last reported, in Unix seconds."""

    @property
    def restarts(self) -> int:
        """How often all workers were started again since the command was started."""
        return max(0, len(self.attempts) - 1)


@dataclass(frozen=True)
class Status:
    """What the driver asks the exporter for."""

    port: int | None
    """The port of the page; None while none is served."""
    view: RunView
    """The newest view, which pages do not show before the driver has it."""
    scrapes: int
    """How many pages were given out."""
