"""Where the workers of a run train, on Ray or in this process: what `launch` knows of them."""

from textwrap import shorten
from typing import Any, Protocol

from recsys_mtl.config import RunConfig
from recsys_mtl.driver.endpoint import Exporter
from recsys_mtl.exporter.snapshot import RunInfo
from recsys_mtl.worker.job import TrainJob

_LETTERS_TOLD = 160  # of an error, before it follows whole


class TrainingError(Exception):
    """Training ended with an error that is not the user's."""


class Runner(Protocol):
    """What one run's workers train on."""

    @property
    def address(self) -> str:
        """Host name or IP address of this machine, for those who scrape the run's metrics."""

    def start(self) -> str:
        """Have what workers need; returns their device, `cpu` or `cuda`.

        Raises:
            UserError: it cannot be had.
        """

    def start_exporter(self, info: RunInfo) -> Exporter:
        """Make the run's exporter, which the workers of `fit` feed."""

    def fit(self, job: TrainJob) -> dict[str, Any]:
        """Train to the end, or to where the workers were asked to stop; metrics of the last
        checkpoint.

        Raises:
            UserError: a worker says what the user can mend.
            TrainingError: a worker failed, more often than it may.
        """

    def close(self) -> None:
        """Leave nothing behind of what was started, which may be nothing."""


def runner_of(config: RunConfig) -> Runner:
    """What `cluster.num_workers` asks for; nothing is started yet."""
    # Each imports what the other does without: Ray, which need not be installed, or TorchRec.
    if config.cluster.in_this_process:
        from recsys_mtl.driver.local_runner import LocalRunner

        return LocalRunner(config)
    from recsys_mtl.driver.ray_runner import RayRunner

    return RayRunner(config)


def in_one_line(error: BaseException) -> str:
    """The last line of what an error says, cut where it is long."""
    line = str(error).strip().rpartition("\n")[2] or type(error).__name__
    return shorten(line, _LETTERS_TOLD, placeholder=" ...")
