"""SIGTERM, as a pre-empted job gets it: have a checkpoint taken, then leave."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from recsys_mtl.events import tell
from recsys_mtl.repeating import Repeating

_SECONDS_BETWEEN_CALLS = 0.5


class PreemptionError(Exception):
    """The run was ended from outside and can go on later."""


class StopOnSigterm:
    """Between `with` and its end, SIGTERM asks the workers to stop instead of ending the process.

    A second one changes nothing: Kubernetes and Ray may both send theirs. The end of the grace
    period interrupts training as Ctrl-C does; what is left then is the last committed checkpoint.
    """

    def __init__(self, ask_workers: Callable[[], None], *, grace_seconds: float) -> None:
        """Name what asks them.

        Args:
            ask_workers: called until they have stopped, since it may go amiss; must not raise.
            grace_seconds: from the first SIGTERM on.
        """
        self._ask_workers, self._grace_seconds = ask_workers, grace_seconds
        self._asked = threading.Event()
        self._until = float("inf")
        self._told = self._interrupted = False
        self._thread = Repeating(self._look, seconds=_SECONDS_BETWEEN_CALLS, name="sigterm")

    @property
    def asked(self) -> bool:
        """Whether SIGTERM came."""
        return self._asked.is_set()

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, self._on_sigterm)
        self._thread.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.__exit__(kind, error, traceback)
        signal.signal(signal.SIGTERM, self._before)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        # Nothing else here: the main thread may stand anywhere, in the middle of a call of Ray's.
        if not self._asked.is_set():
            self._until = time.monotonic() + self._grace_seconds
            self._asked.set()

    def _look(self) -> None:
        if not self._asked.is_set() or self._interrupted:
            return
        if not self._told:
            self._told = True
            seconds = f"{self._grace_seconds:g}"
            tell("stopping", f"SIGTERM: taking a checkpoint and leaving, within {seconds} s")
        if time.monotonic() < self._until:
            self._ask_workers()
            return
        self._interrupted = True
        tell("interrupting", "no checkpoint within the grace period: interrupting the workers")
        os.kill(os.getpid(), signal.SIGINT)
