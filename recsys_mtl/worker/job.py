"""What the driver hands to every worker: small, and soon imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys_mtl.config import RunConfig
from recsys_mtl.data.manifest import Manifest

if TYPE_CHECKING:  # the driver starts without torch's share of seconds
    from recsys_mtl.gradients.methods.contract import Method
    from recsys_mtl.model.bodies.build import BodyFactory
    from recsys_mtl.worker.host import CheckpointSource, OutputFolder


@dataclass(frozen=True)
class FirstValues:
    """The checkpoint of another run from which a new one begins."""

    source: CheckpointSource
    name: str
    """Its run and checkpoint, for a person."""
    step: int
    """Steps that it has trained."""
    config: RunConfig
    """The configuration that made it."""


@dataclass(frozen=True)
class TrainJob:
    """A run to train, as it was found to be sound."""

    config: RunConfig
    """Checked."""
    device: str
    """`cpu` or `cuda`."""
    train: Manifest
    """What data.train holds."""
    eval: Manifest
    """What data.eval holds."""
    run_url: str
    """The run's own folder."""
    last_step: int
    """Steps at the end of the run."""
    body: BodyFactory | None = None
    """Makes a body of the caller's own, instead of the configured one."""
    method: Method | None = None
    """The caller's own, instead of the configured one."""
    first_values: FirstValues | None = None
    """What `run.warm_start` has found; None for a run that goes on, or begins with random ones."""


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint, and how it is to be scored with."""

    config: RunConfig
    """The checkpoint's own; `cluster` and what else only says how to score may differ."""
    source: CheckpointSource
    body: BodyFactory | None = None
    """Makes a body of the caller's own, instead of the configured one."""


@dataclass(frozen=True)
class EvaluationJob:
    """A log to judge models by."""

    model: TrainedModel
    log: Manifest
    """With every task's labels."""
    against: TrainedModel | None = None
    """Another model that scores the same rows."""
    group_by: str | None = None
    """The column by whose values AUC is taken group by group, and groups are drawn."""
    slices: tuple[str, ...] = ()
    """Columns that have a table each, a line per value."""
    max_auc_drop: float | None = None
    """How much lower than that of `against` a task's AUC may be; None without a gate."""


@dataclass(frozen=True)
class PredictionJob:
    """A log to score, file by file."""

    model: TrainedModel
    log: Manifest
    """Labels may be absent."""
    output: OutputFolder
    """Where the output files go."""
    names: Mapping[str, str]
    """File of the log to the name of its output, of those without rows, too."""
    keep: tuple[str, ...]
    """Columns of the log that stand beside the scores."""


ScoringJob = EvaluationJob | PredictionJob
