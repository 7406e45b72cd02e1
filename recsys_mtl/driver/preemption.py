"""SIGTERM, as a pre-empted job gets it: have a checkpoint taken, then leave."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Self

from recsys_mtl.driver.events import log_event
from recsys_mtl.driver.interruption import in_main_thread
from recsys_mtl.driver.repeating import repeating

_SECONDS_BETWEEN_LOOKS = 1.0


class PreemptionError(Exception):
    """The run was ended from outside and can go on later."""


class Sigterm:
    """Between `with` and its end, SIGTERM is noted, and no more happens by itself.

    A second one changes nothing: Kubernetes and Ray may both send theirs. In a thread other than
    the main one nothing is noted: signals are then left to whoever holds that.
    """

    def __init__(self, grace_seconds: float) -> None:
        """Take it that the sender kills no sooner than `grace_seconds` after the first."""
        self.asked = False
        """Whether it came."""
        self._grace_seconds, self._until = grace_seconds, float("inf")
        self._notes = in_main_thread()

    def listen(self) -> None:
        """Hear of it again, after something else has taken the signal: Ray does when it starts."""
        if self._notes:
            signal.signal(signal.SIGTERM, self._note)

    def leave_if_asked(self, run: str) -> None:
        """Nothing, where it has not come.

        Raises:
            PreemptionError: it has, before this run has trained.
        """
        if self.asked:
            raise PreemptionError(
                f"run {run!r} was ended by SIGTERM before it could take a checkpoint; the same "
                "command goes on from the last one"
            )

    def seconds_left(self) -> float:
        """What is left of the grace period; without end before SIGTERM."""
        return self._until - time.monotonic()

    def stopping(
        self, ask_workers: Callable[[], None], begun: Callable[[], bool]
    ) -> AbstractContextManager[None]:
        """Between `with` and its end, have the workers of a run in training leave at SIGTERM.

        Where they do not train yet, and when the grace period is over, training is interrupted as
        by Ctrl-C, every second until it ends: what is left then is the last committed checkpoint.

        Args:
            ask_workers: called every second, since it may go amiss.
            begun: whether they train.
        """
        told = False

        def look() -> None:
            nonlocal told
            if not self.asked:
                return
            if begun() and self.seconds_left() > 0:
                ask_workers()
                sentence = (
                    f"SIGTERM: taking a checkpoint and leaving, within {self._grace_seconds:g} s"
                )
            else:
                os.kill(os.getpid(), signal.SIGINT)
                sentence = "SIGTERM: leaving, with the last checkpoint that was taken before"
            if not told:
                told = True
                log_event("stopping", sentence)

        return repeating(look, seconds=_SECONDS_BETWEEN_LOOKS, name="sigterm")

    def __enter__(self) -> Self:
        if self._notes:
            # What interrupts a run is SIGINT, which is blocked in some of the processes Ray starts.
            self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._notes:
            signal.signal(signal.SIGTERM, self._before)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # No lock and no call: the main thread may stand anywhere, this function included.
        if not self.asked:
            self._until = time.monotonic() + self._grace_seconds
            self.asked = True
