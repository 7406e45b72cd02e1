"""What `launch` knows of where a run trains: on Ray, or in this process."""

from textwrap import shorten
from typing import Any, Protocol

from recsys_mtl.config import RunConfig
from recsys_mtl.driver.endpoint import Exporter
from recsys_mtl.exporter.snapshot import RunInfo
from recsys_mtl.worker.job import TrainJob

_LONGEST_LINE = 160  # letters of an error, before it follows whole


class TrainingError(Exception):
    """Training ended with an error that is not the user's."""


class Runner(Protocol):
    """Starts the workers of one run, follows them to their end, and cleans up."""

    @property
    def address(self) -> str:
        """The host name or IP address at which scrapers reach this machine."""

    def start(self) -> str:
        """Make ready what workers need, and return their device: `cpu` or `cuda`.

        Raises:
            UserError: something that they need is not to be had.
        """

    def start_exporter(self, info: RunInfo) -> Exporter:
        """Make the run's exporter, which the workers of `fit` feed."""

    def fit(self, job: TrainJob) -> dict[str, Any]:
        """Train to the end, or to where the workers were asked to stop.

        Returns:
            What the workers said with their last checkpoint.

        Raises:
            UserError: a worker says what the user can mend.
            TrainingError: a worker failed, more often than it may.
        """

    def close(self) -> None:
        """Remove whatever was started; that may be nothing."""


def runner_of(config: RunConfig) -> Runner:
    """Choose by `cluster.num_workers`; nothing is started yet."""
    # Each branch imports what the other one does without: TorchRec takes seconds, and Ray need not
    # be installed.
    if config.cluster.in_this_process:
        from recsys_mtl.driver.local_runner import LocalRunner

        return LocalRunner(config)
    from recsys_mtl.driver.ray_runner import RayRunner

    return RayRunner(config)


def in_one_line(error: BaseException) -> str:
    """Return the last line of what an error says, cut where it is long."""
    line = str(error).strip().rpartition("\n")[2] or type(error).__name__
    return shorten(line, _LONGEST_LINE, placeholder=" ...")
