"""Checkpoints of a run: what they hold, and how a run goes on from one on any number of workers."""

import json
import time
from pathlib import Path

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.data.ids import ID_ENCODING_VERSION
from recsys_mtl.distributed.planning import PlanRecord
from recsys_mtl.worker.body import name_of_body, refuse_another_body
from recsys_mtl.worker.checkpoint_metadata import (
    METADATA_FILE,
    VERSION,
    CheckpointMetadata,
    read_metadata,
    refuse_to_go_on,
)
from recsys_mtl.worker.host import CheckpointSource, RunHost
from recsys_mtl.worker.job import TrainJob
from recsys_mtl.worker.named_tensors import LoadReport, load_matching, save_tensors
from recsys_mtl.worker.reporting import Reporter, ReporterSummary
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.warm_start import take_first_values


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
        body=name_of_body(worker.model.body),
        warm_start=summary.warm_start,
        best=summary.best,
    )
    tensors = worker.state_dict() | reporter.state_dict()

    def write(folder: Path) -> None:
        save_tensors(tensors, folder)
        if host.context.rank == 0:
            numbers = vars(metadata) | {"config": job.config.model_dump(mode="json")}
            (folder / METADATA_FILE).write_text(json.dumps(numbers, indent=2))

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
        "warm_start": summary.warm_start,
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

    A run that begins takes its first values from another one's, where it is asked to.

    Raises:
        UserError: the checkpoint belongs to another model, method, optimizer or log, or is of
            another version; names what differs.
    """
    if source is None:
        settings = job.config.run.warm_start
        if settings is not None and job.first_values is not None:
            reporter.began_warm(take_first_values(worker, job.first_values, settings))
        return 0
    metadata = read_metadata(source)
    refuse_to_go_on(metadata, job.config, job.train.digest, job.last_step)
    refuse_another_body(worker.model.body, metadata)
    window = reporter.state_dict()
    with source.as_folder() as folder:
        report = load_matching(worker.state_dict() | window, folder)
    _refuse_incomplete(report, job.config)
    summary = ReporterSummary(
        totals=metadata.totals,
        evaluation=metadata.evaluation,
        window_steps=metadata.window_steps,
        warm_start=metadata.warm_start,
        best=metadata.best,
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
