"""The surroundings of a run's only worker, in its driver's process; see `RunHost`."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.driver.interruption import ctrl_c_waits
from recsys_mtl.driver.local_checkpoints import LocalCheckpoints
from recsys_mtl.driver.stored_checkpoint import StoredCheckpoint
from recsys_mtl.exporter.actor import RunExporter
from recsys_mtl.exporter.snapshot import Attempt, CheckpointInfo, Snapshot
from recsys_mtl.worker.host import FinishedCommit


class LocalHost:
    """Gives the worker its checkpoints and the run's exporter."""

    def __init__(
        self, context: WorkerContext, exporter: RunExporter, checkpoints: LocalCheckpoints
    ) -> None:
        self.context = context
        self.feed = LocalFeed(exporter)
        self._checkpoints = checkpoints
        self.metrics: dict[str, Any] = {}
        """What was said with the last commit; empty before the first."""

    def last_checkpoint(self) -> StoredCheckpoint | None:
        """Return the newest committed checkpoint, by whichever process; None before the first."""
        return self._checkpoints.newest()

    def commit(self, write: Callable[[Path], None], metrics: Mapping[str, Any]) -> FinishedCommit:
        """Write and commit a checkpoint before this returns."""
        started = time.perf_counter()

        def write_whole(folder: Path) -> None:
            with ctrl_c_waits():
                write(folder)

        size_bytes = self._checkpoints.commit(
            write_whole, step=metrics["step"], scores=metrics["scores"]
        )
        self.metrics = dict(metrics)
        seconds = time.perf_counter() - started
        return FinishedCommit(CheckpointInfo(time.time(), seconds, size_bytes))


class LocalFeed:
    """Hands snapshots to an exporter of this process; see `SnapshotFeed`."""

    def __init__(self, exporter: RunExporter) -> None:
        self._exporter = exporter
        self._attempt = Attempt(secrets.token_hex(8), ())

    def begin(self, sharding: Sequence[str], warm_start: Sequence[str]) -> None:
        """Say that the worker has started, with its tables lying as these lines say."""
        self._attempt = replace(
            self._attempt, sharding=tuple(sharding), warm_start=tuple(warm_start)
        )
        self._exporter.begin(self._attempt)

    def send(self, snapshot: Snapshot) -> None:
        """Have this snapshot shown when the driver next looks."""
        self._exporter.update(self._attempt, snapshot)

    def stop_asked(self) -> bool:
        """Return whether the driver wants a checkpoint and the end."""
        return self._exporter.stop_asked()

    def close(self) -> None:
        """Do nothing: every snapshot has arrived when `send` returns."""
