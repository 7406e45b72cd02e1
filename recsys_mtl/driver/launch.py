"""From a configuration to a finished run."""

import math
import time
from importlib.metadata import version
from typing import Any

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.data.event_times import refuse_too_short_logs
from recsys_mtl.data.manifest import Manifest, read_manifest
from recsys_mtl.data.plan import last_step, plan_of
from recsys_mtl.data.schema import refuse_other_families
from recsys_mtl.driver.committed import best_of
from recsys_mtl.driver.earlier_run import earlier_run, finished_run
from recsys_mtl.driver.endpoint import Endpoint
from recsys_mtl.driver.events import log_event
from recsys_mtl.driver.first_values import first_values
from recsys_mtl.driver.lease import Lease
from recsys_mtl.driver.preemption import PreemptionError, Sigterm
from recsys_mtl.driver.progress import showing_progress
from recsys_mtl.driver.refusals import refuse_before_workers
from recsys_mtl.driver.result import result_of, show_result
from recsys_mtl.driver.run_folder import RunFolder
from recsys_mtl.driver.runner import Runner, runner_of
from recsys_mtl.driver.storage import storage_url, with_absolute_paths
from recsys_mtl.exporter.snapshot import RunInfo
from recsys_mtl.gradients.methods.contract import Method
from recsys_mtl.gradients.operations import operations_of
from recsys_mtl.metrics.columns import Column, trace_columns
from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.worker.body import backend_on
from recsys_mtl.worker.counted_layers import counted_layers_of_run
from recsys_mtl.worker.job import TrainJob
from recsys_mtl.worker.methods import method_of

_RAY_WORKING_FOLDERS = "/runtime_resources/working_dir_files/"


def launch(
    config: RunConfig,
    *,
    fresh: bool = False,
    body: BodyFactory | None = None,
    method: Method | None = None,
) -> dict[str, Any]:
    """Train the run, or go on with it, and return its result.json.

    Args:
        fresh: delete what an earlier run of the name has left, and begin anew.
        body: makes a body of one's own, instead of the one that `model` describes.
        method: one's own, instead of the one that `method` describes.

    Raises:
        UserError: configuration, data or an earlier run of the name forbid it.
        LeaseError: another driver trains the run.
        TrainingError: a worker failed, more often than cluster.max_restarts.
        PreemptionError: SIGTERM ended it early.
    """
    _refuse_a_passing_folder(config)
    config = with_absolute_paths(config)
    refuse_before_workers(config, body=body, method=method)
    train = read_manifest(config.data.train, config.data)
    refuse_too_short_logs(train.event_times, config.data, train.url)
    evaluation = read_manifest(config.data.eval, config.data)
    refuse_other_families(
        evaluation.column_families, train.column_families, here="data.eval", there="data.train"
    )
    end, folder = _last_step(config, train), RunFolder(config)
    finished = None if fresh else finished_run(folder, config, train, evaluation, end)
    if finished is not None:
        return finished

    with (
        Sigterm(config.cluster.grace_seconds) as sigterm,
        Lease(folder.url).held(lambda: sigterm.leave_if_asked(config.run.name)),
    ):
        # The driver that was waited for may have ended it.
        finished = None if fresh else finished_run(folder, config, train, evaluation, end)
        if finished is not None:
            return finished
        first = first_values(folder, config, train, fresh=fresh)
        started, endpoint, runner = time.time(), Endpoint(config), runner_of(config)
        try:
            device = runner.start()
            sigterm.listen()
            job = TrainJob(
                config=config,
                device=device,
                train=train,
                eval=evaluation,
                run_url=folder.url,
                last_step=end,
                body=body,
                method=method,
                first_values=first,
            )
            backend_on(device, config)
            info = _run_info(job, started)
            # Only now, when nothing more speaks against the run, does an earlier one give way.
            if fresh:
                folder.delete()
            with folder.begun(config, train.digest, evaluation.digest, lambda: endpoint.has_begun):
                endpoint.start(runner.start_exporter(info), runner.address)
                return _run_to_the_end(job, folder, runner, endpoint, sigterm, started)
        finally:
            endpoint.close()
            runner.close()


def refuse_another_run(config: RunConfig) -> None:
    """Ask what `launch` would say of a run of the name that is there, before anything is written.

    Raises:
        UserError: this configuration may not go on with it.
    """
    config = with_absolute_paths(config)
    folder = RunFolder(config)
    if folder.trained_by() is None:
        return
    train = read_manifest(config.data.train, config.data)
    earlier_run(folder, config, train, _last_step(config, train))


def _run_to_the_end(
    job: TrainJob,
    folder: RunFolder,
    runner: Runner,
    endpoint: Endpoint,
    sigterm: Sigterm,
    started: float,
) -> dict[str, Any]:
    """Train, and write and tell the result; whatever the end, the endpoint shows it."""
    config = job.config
    _tell_begin(job)
    try:
        metrics = _train(job, runner, endpoint, sigterm)
        method, settings = _method(job)
        result = result_of(
            config,
            metrics,
            train=job.train,
            evaluation=job.eval,
            best_checkpoint=best_of(folder.checkpoints()),
            wall_seconds=time.time() - started,
            method=method,
            method_settings=settings,
        )
        folder.finish(result, _columns(job))
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


def _tell_begin(job: TrainJob) -> None:
    config, cluster = job.config, job.config.cluster
    workers = "this process" if cluster.in_this_process else f"{cluster.world_size} worker(s)"
    log_event(
        "run",
        f"run {config.run.name}: {job.train.rows:,} rows, {job.last_step:,} steps of "
        f"{config.training.global_batch_size:,}, {workers} on {job.device}",
        run=config.run.name,
        rows=job.train.rows,
        last_step=job.last_step,
        workers=cluster.world_size,
        device=job.device,
    )


def _method(job: TrainJob) -> tuple[Method, dict[str, Any]]:
    """The method that trains the run, and its settings as far as they are known."""
    if job.method is not None:
        return job.method, {"kind": job.method.name}
    # The driver's own: what a method reports does not depend on the backend.
    settings = job.config.method.model_dump(mode="json")
    return method_of(job.config, operations_of("torch")), settings


def _columns(job: TrainJob) -> list[Column]:
    """The columns of the run's trace."""
    config, (method, _) = job.config, _method(job)
    layers = counted_layers_of_run(config, job.body)
    return trace_columns(config.task_names, method.diagnostics, layers)


def _run_info(job: TrainJob, started: float) -> RunInfo:
    config, (method, settings) = job.config, _method(job)
    return RunInfo(
        run=config.run.name,
        task_names=config.task_names,
        method=method.name,
        scope=config.gradients.scope if method.compares_gradients else "",
        alpha=float(settings.get("alpha", math.nan)),
        columns=tuple(_columns(job)),
        device=job.device,
        workers=config.cluster.world_size,
        version=version("recsys-mtl"),
        started_at=started,
    )


def _train(job: TrainJob, runner: Runner, endpoint: Endpoint, sigterm: Sigterm) -> dict[str, Any]:
    """Train to the end; the metrics of the last checkpoint.

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
            metrics = runner.fit(job)
    except UserError:
        raise
    except (Exception, KeyboardInterrupt):
        sigterm.leave_if_asked(name)  # workers may be lost then: that is no failure of the run
        raise
    if metrics["step"] < job.last_step and not metrics["stopped_early"]:
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
    training, seed = config.training, config.run.seed
    plan = plan_of(train, config.data, global_batch_size=training.global_batch_size, seed=seed)
    end = last_step(plan, epochs=training.epochs, max_steps=training.max_steps)
    recon = config.recon
    return recon.search_steps(end) if recon is not None and recon.search_only else end
