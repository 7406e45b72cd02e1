"""A worker's surroundings under Ray Train: who it is, its checkpoints, the run's exporter."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from recsys_mtl.config import Cluster
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.driver.committed import RAY_NO_SCORE
from recsys_mtl.exporter.client import ExporterFeed
from recsys_mtl.exporter.snapshot import CheckpointInfo
from recsys_mtl.worker.host import FinishedCommit
from recsys_mtl.worker.job import TrainJob


class RayHost:
    """One worker of a Ray Train worker group; see `RunHost`."""

    def __init__(self, job: TrainJob, exporter: Any) -> None:
        """Ask Ray Train who this worker is.

        Args:
            exporter: handle of the run's exporter.
        """
        self.context = worker_context(job.config.cluster, job.device)
        self.feed = ExporterFeed(exporter if self.context.rank == 0 else None)

    def last_checkpoint(self) -> "RayCheckpoint | None":
        """The newest that Ray Train has committed."""
        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else RayCheckpoint(checkpoint)

    def commit(self, write: Callable[[Path], None], metrics: Mapping[str, Any]) -> FinishedCommit:
        """Have Ray Train upload every worker's folder and commit them as one checkpoint."""
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="recsys_mtl_checkpoint_") as folder:
            write(Path(folder))
            own_bytes = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(_for_ray_train(metrics), checkpoint=checkpoint)
        seconds = time.perf_counter() - started
        return FinishedCommit(CheckpointInfo(time.time(), seconds, size_bytes=own_bytes))


def _for_ray_train(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The same metrics, with a score that Ray Train can sort by where none is known."""
    scores = metrics["scores"].items()
    known = {by: RAY_NO_SCORE if math.isnan(score) else score for by, score in scores}
    return {**metrics, "scores": known}


def worker_context(cluster: Cluster, device: str) -> WorkerContext:
    """Who this worker of a Ray Train worker group is; its torch threads are set.

    Args:
        device: `cpu` or `cuda`.
    """
    context = ray.train.get_context()
    torch.set_num_threads(cluster.cpus_per_worker)
    return WorkerContext(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        local_world_size=context.get_local_world_size(),
        device=ray.train.torch.get_device() if device == "cuda" else torch.device("cpu"),
    )


class RayCheckpoint:
    """A checkpoint that Ray Train has committed; see `CheckpointSource`."""

    def __init__(self, checkpoint: ray.train.Checkpoint) -> None:
        self._checkpoint = checkpoint

    def read(self, name: str) -> bytes:
        """One file alone: on an object store the folder would be fetched whole."""
        filesystem, path = self._checkpoint.filesystem, self._checkpoint.path
        with filesystem.open_input_stream(f"{path}/{name}") as stream:
            return bytes(stream.read())

    @contextmanager
    def as_folder(self) -> Iterator[Path]:
        """All of it, on this machine while the context lasts."""
        with self._checkpoint.as_directory() as folder:
            yield Path(folder)
