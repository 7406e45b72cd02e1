"""Rank 0's side of the run's exporter: it sends snapshots and asks whether to stop."""

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError

from recsys_mtl.exporter.snapshot import Attempt, Snapshot

_SECONDS_BETWEEN_QUESTIONS = 0.5
_LAST_SECONDS = 5.0


class ExporterFeed:
    """Sends snapshots and never waits for them: a slow or dead exporter must not hold up training.

    See `SnapshotFeed`. A snapshot says everything that the one before it said, so only one is under
    way at a time, and of those that come meanwhile only the newest is kept.
    """

    def __init__(self, exporter: Any) -> None:
        """Feeds this actor.

        Args:
            exporter: its handle; None feeds nobody, as on ranks other than 0.
        """
        self._exporter = exporter
        self._attempt = Attempt(secrets.token_hex(8), ())
        self._sent: Any = None
        self._waiting: Snapshot | None = None
        self._question: Any = None
        self._asked_at = 0.0
        self._stop_asked = False

    def begin(self, sharding: Sequence[str], warm_start: Sequence[str]) -> None:
        """Tells that the workers have started, and in these lines where their tables lie."""
        self._attempt = replace(
            self._attempt, sharding=tuple(sharding), warm_start=tuple(warm_start)
        )
        if self._exporter is not None:
            self._exporter.begin.remote(self._attempt)

    def send(self, snapshot: Snapshot) -> None:
        """Has this snapshot shown, or a later one."""
        if self._exporter is None:
            return
        self._waiting = snapshot
        if self._sent is None or _is_there(self._sent):
            self._send_waiting()

    def close(self) -> None:
        """Waits until the last snapshot has arrived, at most 5 s."""
        until = time.monotonic() + _LAST_SECONDS
        while self._sent is not None:
            ray.wait([self._sent], timeout=max(0.0, until - time.monotonic()))
            self._sent = None
            if self._waiting is not None:
                self._send_waiting()

    def stop_asked(self) -> bool:
        """Returns whether the driver wants a checkpoint and the end; asks twice per second."""
        if self._stop_asked or self._exporter is None:
            return self._stop_asked
        if self._question is None:
            if time.monotonic() - self._asked_at < _SECONDS_BETWEEN_QUESTIONS:
                return False
            self._question, self._asked_at = self._exporter.stop_asked.remote(), time.monotonic()
        if _is_there(self._question):
            with suppress(RayError):  # the exporter was lost; Ray makes another
                self._stop_asked = bool(ray.get(self._question))
            self._question = None
        return self._stop_asked

    def _send_waiting(self) -> None:
        self._sent = self._exporter.update.remote(self._attempt, self._waiting)
        self._waiting = None


def _is_there(answer: Any) -> bool:
    return bool(ray.wait([answer], timeout=0)[0])
