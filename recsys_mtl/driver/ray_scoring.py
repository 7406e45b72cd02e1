"""Scores a log on Ray's workers."""

import secrets
from contextlib import suppress
from typing import Any

import ray

from recsys_mtl.config import UserError
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.driver.cluster import device_of, start_ray
from recsys_mtl.driver.ray_train import fit_trainer, trainer_of
from recsys_mtl.driver.repeating import repeating
from recsys_mtl.driver.scoring import Advance
from recsys_mtl.driver.storage import Folder, storage_url
from recsys_mtl.worker.job import ScoringJob

_LOOK_SECONDS = 0.5


def score_on_ray(job: ScoringJob, advance: Advance) -> dict[str, Any]:
    """Do the job on the cluster of RAY_ADDRESS, or on one started here. See `run_scoring`."""
    config = job.model.config
    start_ray(config)
    # Ray Train keeps files of its own, where every node must reach them: beside the run's folder.
    parent, name = storage_url(config.run.storage_path), f".{config.run.name}.scoring"
    name = f"{name}-{secrets.token_hex(4)}"
    try:
        counter = ray.remote(RowCounter).options(num_cpus=0).remote()
        device = device_of(config)
        trainer = trainer_of(
            _score_worker,
            {"job": job, "device": device, "counter": counter},
            config.cluster,
            device,
            name=name,
            storage_path=parent,
        )
        seen = 0

        def look() -> None:
            nonlocal seen
            rows = ray.get(counter.rows.remote())
            advance(rows - seen)
            seen = rows

        with repeating(look, seconds=_LOOK_SECONDS, name="progress"):
            return dict(fit_trainer(trainer, "scoring failed", "").return_value)
    finally:
        ray.shutdown()
        with suppress(UserError):  # it must not hide what ended the work
            Folder(f"{parent}/{name}").remove()


class RowCounter:
    """Counts rows that workers have done; an actor."""

    def __init__(self) -> None:
        self._rows = 0

    def add(self, rows: int) -> None:
        """Count so many more."""
        self._rows += rows

    def rows(self) -> int:
        """Return how many there are so far."""
        return self._rows


class RayScoringHost:
    """One worker's surroundings on Ray; see `ScoringHost`."""

    def __init__(self, context: WorkerContext, counter: Any) -> None:
        self.context, self._counter = context, counter

    def advance(self, rows: int) -> None:
        """Tell the actor, without waiting for it."""
        if rows:
            self._counter.add.remote(rows)


def _score_worker(given: dict[str, Any]) -> dict[str, Any]:
    # Only workers need what this imports: TorchRec alone takes seconds.
    from recsys_mtl.driver.ray_host import worker_context
    from recsys_mtl.worker.scoring import score

    job: ScoringJob = given["job"]
    context = worker_context(job.model.config.cluster, given["device"])
    return score(RayScoringHost(context, given["counter"]), job)
