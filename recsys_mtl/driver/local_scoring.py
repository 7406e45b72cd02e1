"""Scores a log in this process, without Ray."""

from dataclasses import dataclass
from typing import Any

from recsys_mtl.config import UserError
from recsys_mtl.distributed.alone import alone
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.driver.interruption import ended_by_ctrl_c
from recsys_mtl.driver.local_runner import device_here
from recsys_mtl.driver.runner import TrainingError, in_one_line
from recsys_mtl.driver.scoring import Advance
from recsys_mtl.worker.job import ScoringJob
from recsys_mtl.worker.scoring import score


@dataclass(frozen=True)
class LocalScoringHost:
    """The surroundings of the only worker; see `ScoringHost`."""

    context: WorkerContext
    advance: Advance


def score_here(job: ScoringJob, advance: Advance) -> dict[str, Any]:
    """Do the job; afterwards every global of this process is as it was. See `run_scoring`."""
    cluster = job.model.config.cluster
    device = device_here(job.model.config)
    here = alone(
        device, num_threads=cluster.cpus_per_worker, timeout_seconds=cluster.timeout_seconds
    )
    try:
        with ended_by_ctrl_c(), here as context:
            return score(LocalScoringHost(context, advance), job)
    except UserError:
        raise
    except Exception as error:
        raise TrainingError(f"scoring failed ({in_one_line(error)})") from error
