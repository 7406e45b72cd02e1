"""Trains a run in this process, without Ray; see `Runner` for what each method promises."""

import socket
from typing import Any

import torch

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.distributed.alone import alone, refuse_process_group
from recsys_mtl.driver.interruption import ended_by_ctrl_c
from recsys_mtl.driver.local_checkpoints import LocalCheckpoints
from recsys_mtl.driver.local_host import LocalHost
from recsys_mtl.driver.runner import TrainingError, in_one_line
from recsys_mtl.exporter.actor import RunExporter
from recsys_mtl.exporter.snapshot import RunInfo
from recsys_mtl.train import train_run
from recsys_mtl.worker.job import TrainJob

_ELSEWHERE = ("192.0.2.1", 9)  # reserved for examples (RFC 5737)


class LocalRunner:
    """Makes the thread that calls `fit` the run's only worker."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._exporter: RunExporter | None = None

    @property
    def address(self) -> str:
        """The address at which others reach this machine; 127.0.0.1 where it has no network."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(_ELSEWHERE)  # sends nothing: the system only chooses a route
            except OSError:
                return "127.0.0.1"
            return str(probe.getsockname()[0])

    def start(self) -> str:
        """See whether this process may train, and on what.

        Raises:
            UserError: this process belongs to a process group already, or it has no GPU where one
                is asked for.
        """
        return device_here(self._config)

    def start_exporter(self, info: RunInfo) -> RunExporter:
        """Make the exporter an object of this process, which serves its page."""
        self._exporter = RunExporter(info)
        return self._exporter

    def fit(self, job: TrainJob) -> dict[str, Any]:
        """Train here; afterwards every global of this process is as it was."""
        assert self._exporter is not None, "start it first"
        cluster = job.config.cluster
        here = alone(
            job.device,
            num_threads=cluster.cpus_per_worker,
            timeout_seconds=cluster.timeout_seconds,
        )
        try:
            with ended_by_ctrl_c(), here as context:
                kept = LocalCheckpoints(job.run_url, job.config.training.checkpoints_kept)
                host = LocalHost(context, self._exporter, kept)
                train_run(host, job)
        except UserError:
            raise
        except Exception as error:
            raise TrainingError(
                f"run {job.config.run.name!r} failed ({in_one_line(error)}); the same command goes "
                "on from its last checkpoint"
            ) from error
        return host.metrics

    def close(self) -> None:
        """Stop serving metrics."""
        if self._exporter is not None:
            self._exporter.close()


def device_here(config: RunConfig) -> str:
    """`cpu` or `cuda`, for what this process computes by itself.

    Raises:
        UserError: this process belongs to a process group already, or it has no GPU where one is
            asked for.
    """
    refuse_process_group()
    wanted, has_gpu = config.cluster.device, torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise UserError(
            "cluster.device is cuda and cluster.num_workers is 0, but this process has no GPU "
            f"(torch {torch.__version__}); choose cpu, or auto to take a GPU where there is one"
        )
    return "cuda" if has_gpu and wanted != "cpu" else "cpu"
