"""Ray Train's part: start the workers, restart them when one is lost, and end.

Ray Train's controller, a process of its own, imports this file too.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

import ray
from ray.train import CheckpointConfig, FailureConfig, Result, ScalingConfig
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.callback import UserCallback
from ray.train.v2.api.exceptions import TrainingFailedError

from recsys_mtl.config import Cluster, UserError
from recsys_mtl.driver.cluster import MINUTES_FOR_WORKERS, resources_per_worker
from recsys_mtl.driver.interruption import in_main_thread
from recsys_mtl.driver.runner import TrainingError, in_one_line
from recsys_mtl.worker.best import scored_by
from recsys_mtl.worker.job import TrainJob


def fit(job: TrainJob, exporter: Any) -> dict[str, Any]:
    """Train to the end, or to where the workers were asked to stop; metrics of the last report.

    Args:
        exporter: handle of the run's exporter.

    Raises:
        UserError: a worker says what the user can mend.
        TrainingError: the workers failed more often than cluster.max_restarts.
    """
    storage_path, _, name = job.run_url.rpartition("/")
    trainer = trainer_of(
        _train_worker,
        {"job": job, "exporter": exporter},
        job.config.cluster,
        job.device,
        name=name,
        storage_path=storage_path,
        checkpoints=_checkpoints_to_keep(job),
    )
    result = fit_trainer(
        trainer, f"run {name!r} failed", "; the same command goes on from its last checkpoint"
    )
    return dict(result.metrics)


def _checkpoints_to_keep(job: TrainJob) -> CheckpointConfig:
    """As `local_checkpoints.those_to_keep` has it: by score where there is one."""
    training = job.config.training
    measured = scored_by(training.best_by, job.eval.digest)
    return CheckpointConfig(
        num_to_keep=training.checkpoints_kept,
        # Ray Train reads the checkpoint's metrics {"scores": {measured: score}} so.
        checkpoint_score_attribute=None if measured is None else f"scores/{measured}",
    )


def trainer_of(
    function: Callable[[dict[str, Any]], Any],
    given: dict[str, Any],
    cluster: Cluster,
    device: str,
    *,
    name: str,
    storage_path: str,
    checkpoints: CheckpointConfig | None = None,
) -> TorchTrainer:
    """Workers with a process group, each of which calls `function(given)`.

    Args:
        name: of the folder in `storage_path` that Ray Train keeps for itself; every node must
            reach it.
    """
    cuda = device == "cuda"
    return TorchTrainer(
        function,
        train_loop_config=given,
        torch_config=TorchConfig(
            backend="nccl" if cuda else "gloo", timeout_s=cluster.timeout_seconds
        ),
        scaling_config=ScalingConfig(
            num_workers=cluster.num_workers,
            use_gpu=cuda,
            resources_per_worker=resources_per_worker(cluster, device),
        ),
        run_config=RayRunConfig(
            name=name,
            storage_path=storage_path,
            failure_config=FailureConfig(
                max_failures=cluster.max_restarts, controller_failure_limit=MINUTES_FOR_WORKERS
            ),
            checkpoint_config=checkpoints or CheckpointConfig(),
            callbacks=[_StopAtUserErrors()],
        ),
    )


def fit_trainer(trainer: TorchTrainer, what_failed: str, advice: str) -> Result:
    """Let the workers work to their end.

    Raises:
        UserError: a worker says what the user can mend.
        TrainingError: the workers failed too often; begins with `what_failed`.
    """
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        result = trainer.fit()
    except SystemExit:  # Ray Train's own answer to Ctrl-C, when it has ended the workers
        raise KeyboardInterrupt from None
    except TrainingFailedError as error:
        user_error = _user_error(error)
        if user_error is not None:
            raise user_error from None
        raise TrainingError(
            f"{what_failed} ({_first_failure(error)}){advice}. Workers' logs: {_log_folder()}\n"
            f"{error}"
        ) from None
    finally:
        if in_main_thread():
            signal.signal(signal.SIGINT, on_ctrl_c)  # Ray Train leaves its own behind
    return result


def _train_worker(given: dict[str, Any]) -> None:
    # Only workers need what this imports: TorchRec alone takes seconds.
    from recsys_mtl.driver.ray_host import RayHost
    from recsys_mtl.train import train_run

    job: TrainJob = given["job"]
    train_run(RayHost(job, given["exporter"]), job)


class _StopAtUserErrors(UserCallback):  # type: ignore[misc]
    """Keeps Ray Train from retrying what would fail again the same way.

    What a callback raises ends the run at once; what a worker raises is retried.
    """

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            user_error = _user_error(error)
            if user_error is not None:
                raise user_error


def _user_error(error: BaseException | None) -> UserError | None:
    """The UserError inside Ray's wrappings, if that is what happened."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        inner = [
            getattr(error, name, None)
            for name in ("base_exc", "controller_failure", "cause", "__cause__")
        ]
        failures = getattr(error, "worker_failures", {}).values()
        error = next((e for e in [*failures, *inner] if isinstance(e, BaseException)), None)
    return None


def _first_failure(error: TrainingFailedError) -> str:
    """The first worker's error, without its traceback; or what failed besides workers."""
    failures = getattr(error, "worker_failures", {})
    for rank, failure in sorted(failures.items()):
        return f"worker {rank}: {in_one_line(failure)}"
    return in_one_line(getattr(error, "controller_failure", error))


def _log_folder() -> str:
    """Where each node's workers write what they log and print."""
    session = ray.get_runtime_context().get_session_name()
    return f"{os.environ.get('RAY_TMPDIR', '/tmp')}/ray/{session}/logs on their nodes"
