"""What a worker asks of whoever runs it: Ray Train, or the process that started the run.

The step, the loop and the checkpoint know a host by these protocols alone.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.exporter.snapshot import CheckpointInfo, Snapshot


class CheckpointSource(Protocol):
    """A committed checkpoint."""

    def read(self, name: str) -> bytes:
        """One small file of it, without fetching the others."""

    def as_folder(self) -> AbstractContextManager[Path]:
        """All of it, on this machine while the context lasts."""


class PendingCommit(Protocol):
    """A checkpoint that is under way."""

    def wait(self) -> CheckpointInfo:
        """Until it is committed; when, how long it took, and this worker's bytes."""


class FinishedCommit:
    """A commit that was done before it returned; see `PendingCommit`."""

    def __init__(self, checkpoint: CheckpointInfo) -> None:
        self._checkpoint = checkpoint

    def wait(self) -> CheckpointInfo:
        """What was committed."""
        return self._checkpoint


class SnapshotFeed(Protocol):
    """Shows where training stands; never holds it up."""

    def begin(self, sharding: Sequence[str], warm_start: Sequence[str]) -> None:
        """The workers have started.

        Args:
            sharding: lines that say where their tables lie.
            warm_start: lines that say what was taken from another run.
        """

    def send(self, snapshot: Snapshot) -> None:
        """Have this snapshot shown, or a later one."""

    def stop_asked(self) -> bool:
        """Whether training is to end early; rank 0 alone is ever told so."""

    def close(self) -> None:
        """Have the last snapshot arrive."""


class RunHost(Protocol):
    """One worker's surroundings while it trains."""

    @property
    def context(self) -> WorkerContext:
        """Who this worker is."""

    @property
    def feed(self) -> SnapshotFeed:
        """Where its snapshots go."""

    def last_checkpoint(self) -> CheckpointSource | None:
        """The newest committed checkpoint of the run; None before the first."""

    def commit(self, write: Callable[[Path], None], metrics: Mapping[str, Any]) -> PendingCommit:
        """Have every worker's part written and committed as one checkpoint; all call it together.

        Args:
            write: writes this worker's part into an empty folder; it is called once.
            metrics: plain numbers for whoever follows the run.
        """


class OutputFolder(Protocol):
    """A folder whose files appear whole."""

    def files(self) -> list[str]:
        """The files that are there, by their path in it."""

    def new_file(self, name: str) -> AbstractContextManager[Path]:
        """Give a path of this machine; its file is there as `name` after the context.

        After an error nothing appears.
        """


class ScoringHost(Protocol):
    """One worker's surroundings while it scores a log with a trained model."""

    @property
    def context(self) -> WorkerContext:
        """Who this worker is."""

    def advance(self, rows: int) -> None:
        """Say that so many more rows are done; it never holds the worker up."""
