"""From a configuration to a finished run."""

import math
import time
from importlib.metadata import version
from typing import Any

import ray

from recsys_mtl.config import RunConfig, UserError, refuse_changes
from recsys_mtl.data.manifest import Manifest, read_manifest
from recsys_mtl.data.plan import plan_of
from recsys_mtl.driver.cluster import device_of, start_ray
from recsys_mtl.driver.endpoint import Endpoint
from recsys_mtl.driver.events import tell
from recsys_mtl.driver.lease import Lease
from recsys_mtl.driver.preemption import PreemptionError, Sigterm
from recsys_mtl.driver.progress import show_result, showing_progress
from recsys_mtl.driver.ray_train import fit
from recsys_mtl.driver.run_folder import RunFolder, result_of
from recsys_mtl.driver.storage import storage_url
from recsys_mtl.exporter.snapshot import RunInfo
from recsys_mtl.gradients.operations import operations_of
from recsys_mtl.metrics.columns import trace_columns
from recsys_mtl.worker.job import TrainJob
from recsys_mtl.worker.methods import method_of

_RAY_WORKING_FOLDERS = "/runtime_resources/working_dir_files/"


def launch(config: RunConfig, *, fresh: bool) -> dict[str, Any]:
    """Train the run, or go on with it, and return its result.json.

    Raises:
        UserError: configuration, data or an earlier run of the name forbid it.
        LeaseError: another driver trains the run.
        TrainingError: the workers failed more often than cluster.max_restarts.
        PreemptionError: SIGTERM ended it early.
    """
    _refuse_a_passing_folder(config)
    train = read_manifest(config.data.train, config.data)
    evaluation = read_manifest(config.data.eval, config.data)
    last_step, folder = _last_step(config, train), RunFolder(config)
    finished = None if fresh else _finished(folder, config, train, last_step)
    if finished is not None:
        return finished

    with (
        Sigterm(config.cluster.grace_seconds) as sigterm,
        Lease(folder.url).held(lambda: sigterm.leave_if_asked(config.run.name)),
    ):
        # The driver that was waited for may have ended it.
        finished = None if fresh else _finished(folder, config, train, last_step)
        if finished is not None:
            return finished
        started, endpoint = time.time(), Endpoint(config)
        try:
            start_ray(config)
            sigterm.listen()
            device = device_of(config)
            # Only now, when nothing more speaks against the run, does an earlier one give way.
            if fresh:
                folder.delete()
            folder.begin(config, train.digest)
            job = TrainJob(
                config=config,
                device=device,
                train=train,
                eval=evaluation,
                run_url=folder.url,
                last_step=last_step,
            )
            endpoint.start(_run_info(job, started))
            return _run_to_the_end(job, folder, endpoint, sigterm, started)
        finally:
            endpoint.close()
            ray.shutdown()


def _run_to_the_end(
    job: TrainJob, folder: RunFolder, endpoint: Endpoint, sigterm: Sigterm, started: float
) -> dict[str, Any]:
    """Train, and write and tell the result; whatever the end, the endpoint shows it."""
    config = job.config
    tell(
        "run",
        f"run {config.run.name}: {job.train.rows:,} rows, {job.last_step:,} steps of "
        f"{config.training.global_batch_size:,}, {config.cluster.num_workers} worker(s) on "
        f"{job.device}",
        run=config.run.name,
        rows=job.train.rows,
        last_step=job.last_step,
        workers=config.cluster.num_workers,
        device=job.device,
    )
    try:
        metrics = _train(job, endpoint, sigterm)
        result = result_of(config, metrics, wall_seconds=time.time() - started)
        folder.finish(result, _run_info(job, started).columns)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        from_outside = interrupted or isinstance(error, PreemptionError)
        endpoint.end(
            "preempted" if from_outside else "failed",
            why="interrupted" if interrupted else str(error) or type(error).__name__,
            seconds_left=sigterm.seconds_left,
        )
        raise
    show_result(result, folder.url)
    endpoint.end("finished", seconds_left=sigterm.seconds_left)
    return result


def _run_info(job: TrainJob, started: float) -> RunInfo:
    config = job.config
    # The driver's own: what a method reports does not depend on the backend.
    method = job.method or method_of(config.method, operations_of("torch"))
    return RunInfo(
        run=config.run.name,
        task_names=config.task_names,
        method=method.name,
        scope=config.gradients.scope if method.compares_gradients else "",
        alpha=float(config.method.model_dump().get("alpha", math.nan)),
        columns=tuple(trace_columns(config.task_names, method.diagnostics)),
        device=job.device,
        workers=config.cluster.num_workers,
        version=version("recsys-mtl"),
        started_at=started,
    )


def _train(job: TrainJob, endpoint: Endpoint, sigterm: Sigterm) -> dict[str, Any]:
    """Train to the end; the metrics of the last report.

    Raises:
        PreemptionError: SIGTERM came before the end.
    """
    name, tasks = job.config.run.name, job.config.task_names
    sigterm.leave_if_asked(name)
    try:
        with (
            showing_progress(endpoint.status, tasks),
            sigterm.stopping(endpoint.ask_to_stop, lambda: endpoint.has_begun),
        ):
            metrics = fit(job, endpoint.actor)
    except UserError:
        raise
    except (Exception, KeyboardInterrupt):
        sigterm.leave_if_asked(name)  # workers may be lost then: that is no failure of the run
        raise
    if metrics["step"] < job.last_step:
        raise PreemptionError(
            f"run {name!r} was ended by SIGTERM at step {metrics['step']:,} of "
            f"{job.last_step:,}, which is in a checkpoint; the same command goes on from there"
        )
    return metrics


def _refuse_a_passing_folder(config: RunConfig) -> None:
    """A Ray job's working folder is Ray's copy, another on every node and gone when room is short.

    Raises:
        UserError: the run would be kept there.
    """
    storage_path = config.run.storage_path
    if _RAY_WORKING_FOLDERS in f"{storage_url(storage_path)}/":
        raise UserError(
            f"run.storage_path is {storage_path!r}, a place in the Ray job's copy of the working "
            "folder, which does not last; give a folder or URL that every node can write to"
        )


def _last_step(config: RunConfig, train: Manifest) -> int:
    """Steps at the end of the run."""
    training = config.training
    plan = plan_of(
        train, config.data, global_batch_size=training.global_batch_size, seed=config.run.seed
    )
    if training.epochs is None and training.max_steps is not None:
        return training.max_steps
    by_epochs = (training.epochs or 1) * plan.steps_per_epoch
    return min(by_epochs, training.max_steps or by_epochs)


def _finished(
    folder: RunFolder, config: RunConfig, train: Manifest, last_step: int
) -> dict[str, Any] | None:
    """The result of a run of this name, told, where it has already come to its end.

    Raises:
        UserError: there is a run of this name that this configuration may not go on with.
    """
    earlier = folder.earlier() if folder.has_checkpoint() else None
    if earlier is None:
        return None
    old_config, old_digest = earlier
    refuse_changes(old_config, config, old_digest, train.digest)
    result = folder.result()
    if result is None or result["steps"] != last_step:
        return None
    tell("finished", f"run {config.run.name!r} is finished; --fresh trains it anew")
    show_result(result, folder.url)
    return result
