"""Checkpoints of a run: what they hold, and how a run goes on from one on any number of workers."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys_mtl.config import RunConfig, UserError, refuse_changes
from recsys_mtl.data.ids import ID_ENCODING_VERSION
from recsys_mtl.distributed.planning import PlanRecord
from recsys_mtl.worker.host import CheckpointSource, RunHost
from recsys_mtl.worker.job import TrainJob
from recsys_mtl.worker.named_tensors import LoadReport, load_matching, save_tensors
from recsys_mtl.worker.reporting import Reporter, ReporterSummary
from recsys_mtl.worker.state import Worker

VERSION = 3
"""Which names and layout a checkpoint has. Version 1 held flat vectors without names; version 2 did
not say what the columns of the log held."""

_METADATA = "run.json"


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a checkpoint says about its run, in plain numbers."""

    version: int
    """`VERSION` of the code that wrote it."""
    id_encoding: int
    """`ID_ENCODING_VERSION` then: under another encoding the tables mean nothing."""
    step: int
    """Finished steps: the reader's cursor, too, since a step's rows follow from its number."""
    saved_at: float
    """Unix seconds, of rank 0's clock."""
    config: RunConfig
    """The configuration that made it."""
    data_digest: str
    """The digest of the training log's manifest."""
    column_families: Mapping[str, str]
    """What the training log's columns held, as its manifest says it."""
    sharding_plan: PlanRecord
    """Which shard lay where; empty without tables. Restoring onto another plan cuts them anew."""
    totals: Mapping[str, Any]
    """`Totals.to_json()`."""
    evaluation: Mapping[str, Any]
    """The newest before it, task by task."""
    window_steps: int
    """Steps in the current window of the training AUC."""
    best: Mapping[str, Any] = field(default_factory=dict)
    """`BestKeeper.state_dict()`."""


def save_run(host: RunHost, worker: Worker, reporter: Reporter, job: TrainJob, step: int) -> None:
    """Write, upload and commit a checkpoint; every worker calls it at the same step."""
    reporter.report(step)
    reporter.flush()
    summary = reporter.summary_with_checkpoint()
    metadata = CheckpointMetadata(
        version=VERSION,
        id_encoding=ID_ENCODING_VERSION,
        step=step,
        saved_at=time.time(),
        config=job.config,
        data_digest=job.train.digest,
        column_families=job.train.column_families,
        sharding_plan=_sharding_plan(worker),
        totals=summary.totals,
        evaluation=summary.evaluation,
        window_steps=summary.window_steps,
        best=summary.best,
    )
    tensors = worker.state_dict() | reporter.state_dict()

    def write(folder: Path) -> None:
        save_tensors(tensors, folder)
        if host.context.rank == 0:
            numbers = vars(metadata) | {"config": job.config.model_dump(mode="json")}
            (folder / _METADATA).write_text(json.dumps(numbers, indent=2))

    model = worker.model
    metrics = {
        "step": step,
        "scores": reporter.best.scores(step),
        "best": reporter.best.summary(),
        "stopped_early": step < job.last_step and reporter.best.stops_at(step),
        "epochs": step / worker.plan.steps_per_epoch,
        "evaluation": summary.evaluation,
        "totals": summary.totals,
        "sharding": metadata.sharding_plan,
        "parameters": {
            "shared": model.shared.size,
            "tables": model.tables.num_parameters() if model.tables is not None else 0,
            "task_specific": model.task_specific.size,
        },
    }
    reporter.checkpointed(host.commit(write, metrics).wait())


def restore_run(
    source: CheckpointSource | None, worker: Worker, reporter: Reporter, job: TrainJob
) -> int:
    """The step to go on from, with everything as it was after it; 0 without a checkpoint.

    Raises:
        UserError: the checkpoint belongs to another model, method, optimizer or log, or is of
            another version; names what differs.
    """
    if source is None:
        return 0
    metadata = read_metadata(source)
    refuse_changes(metadata.config, job.config, metadata.data_digest, job.train.digest)
    if metadata.step > job.last_step:
        raise UserError(
            f"run {job.config.run.name!r} has trained {metadata.step} steps, more than the "
            f"{job.last_step} that training.epochs and training.max_steps now ask for; raise "
            "them, or start anew with --fresh"
        )
    window = reporter.state_dict()
    with source.as_folder() as folder:
        report = load_matching(worker.state_dict() | window, folder)
    _refuse_incomplete(report, job.config)
    summary = ReporterSummary(
        metadata.totals, metadata.evaluation, metadata.window_steps, metadata.best
    )
    reporter.load_state_dict(window, summary, metadata.saved_at)
    return metadata.step


def earlier_plan(source: CheckpointSource | None, config: RunConfig) -> PlanRecord | None:
    """The sharding plan to keep to: the run's own, unless what it was made for has changed."""
    if source is None:
        return None
    metadata = read_metadata(source)
    old = metadata.config
    same_workers = old.cluster.num_workers == config.cluster.num_workers
    same_wishes = old.sharding == config.sharding
    return (
        metadata.sharding_plan if same_workers and same_wishes and metadata.sharding_plan else None
    )


_TRAIN_ANEW = "choose another run.name, or start anew with --fresh"


def read_metadata(source: CheckpointSource, advice: str = _TRAIN_ANEW) -> CheckpointMetadata:
    """What a checkpoint says about its run; its tensors are not fetched.

    Args:
        advice: what to do where it is of another version.

    Raises:
        UserError: it is of another version.
    """
    try:
        numbers = json.loads(source.read(_METADATA))
        if numbers.get("version") != VERSION:
            raise ValueError(f"version {numbers.get('version', 1)}, and this one reads {VERSION}")
        if numbers["id_encoding"] != ID_ENCODING_VERSION:
            raise ValueError(
                f"ids encoded by version {numbers['id_encoding']}, and here {ID_ENCODING_VERSION}"
            )
        config = RunConfig.model_validate_json(json.dumps(numbers["config"]))
        return CheckpointMetadata(**numbers | {"config": config})
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"the run's checkpoint is of another version of recsys-mtl ({error}); {advice}"
        ) from None


def _refuse_incomplete(report: LoadReport, config: RunConfig) -> None:
    """Raise UserError where a checkpoint does not hold all of the run and only that."""
    if report.is_complete:
        return
    found = [
        *(f"{name} is not in it" for name in report.new),
        *(f"{name} is in it alone" for name in report.dropped),
        *(f"{o.name} has shape {o.saved}, not {o.wanted}" for o in report.other_shape),
    ]
    raise UserError(
        f"the checkpoint of run {config.run.name!r} does not hold this model ({found[0]}, and "
        f"{len(found) - 1} more); give the body and the method it was begun with, choose another "
        "run.name, or start anew with --fresh"
    )


def _sharding_plan(worker: Worker) -> PlanRecord:
    return worker.model.tables.plan if worker.model.tables is not None else {}
