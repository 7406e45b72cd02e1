"""Runs the processes of cells, as many at a time as there is room for, to the end of all."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_mtl.config import UserError
from recsys_mtl.driver.sweep.admission import Demand, Room
from recsys_mtl.driver.sweep.outcomes import Failure

_LOOK_SECONDS = 0.2
_IDLE_SECONDS = 900.0  # that a cluster which has lost a node has to get another one in
_TAIL_BYTES = 16_384  # of a log, which has its newest lines


@dataclass(frozen=True)
class Job:
    """A cell's process that is to run."""

    name: str
    """The cell's."""
    command: tuple[str, ...]
    log: Path
    """Its output is added there."""
    demand: Demand


class Running:
    """A process at work."""

    def __init__(self, job: Job, environment: Mapping[str, str]) -> None:
        """Start it."""
        self.job, self.started = job, time.monotonic()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            self._log_begins = log.tell()
            # In a session of its own, so that Ctrl-C reaches the sweep, which ends it in order.
            self._process = subprocess.Popen(
                job.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def steps(self) -> tuple[int, int] | None:
        """The step that it has told of last, and the last one of its run; None before the first."""
        for event in reversed(list(self._events())):
            if "last_step" in event:
                return int(event.get("step", 0)), int(event["last_step"])
        return None

    def failure(self, status: int) -> Failure:
        """What to say of it, once it has ended."""
        lines = self._lines()
        last = lines[-1] if lines else ""
        with suppress(ValueError, TypeError, KeyError):
            last = str(json.loads(last)["message"]).partition("\n")[0]
        if status < 0:
            name = signal.Signals(-status).name
            guess = ", as by the system when memory is short" if name == "SIGKILL" else ""
            last = f"killed by {name}{guess}" + (f"; before: {last}" if last else "")
        printable = "".join(letter if letter.isprintable() else " " for letter in last)
        return Failure(status, printable or "nothing was printed")

    def ask_to_end(self) -> None:
        """Have it take a checkpoint and leave."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def end(self, until: float) -> None:
        """Wait for its end until this time of the monotonic clock, and no longer."""
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _events(self) -> Iterator[dict[str, Any]]:
        for line in self._lines():
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    def _lines(self) -> list[str]:
        """The newest lines of this start's part of the log."""
        with self.job.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_begins, end - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Situation:
    """How the jobs stand."""

    waiting: Sequence[Job]
    running: Sequence[Running]
    finished: int
    failed: int


def run_jobs(
    jobs: Sequence[Job],
    room: Room,
    environment: Mapping[str, str],
    *,
    grace_seconds: float,
    ended: Callable[[Job, Failure | None], None],
    look: Callable[[Situation], None],
) -> None:
    """Run all jobs, in their order, each as soon as there is room.

    Args:
        environment: of each process.
        grace_seconds: what a process has to end in, where this is ended from outside.
        ended: is told of each job that has ended, and how it failed if it did.
        look: is told how the jobs stand, a few times per second; what it raises ends all of them.

    A cluster may lose a node for good. When nothing has run for a quarter of an hour, a job for
    which what is left has no room counts as failed, and those behind it go on.
    """
    waiting, running, finished, failed = list(jobs), list[Running](), 0, 0
    busy_at = time.monotonic()
    with _ending(running, grace_seconds):
        while waiting or running:
            # The first that waits goes first, so that a large cell is not kept out by small ones.
            while waiting and room.admits(waiting[0].demand, [r.job.demand for r in running]):
                running.append(Running(waiting.pop(0), environment))
            for job, failure in _take_ended(running):
                finished, failed = finished + (failure is None), failed + (failure is not None)
                ended(job, failure)
            if running:
                busy_at = time.monotonic()
            elif waiting and time.monotonic() - busy_at > _IDLE_SECONDS:
                failure = _has_no_room(waiting[0], room)
                if failure is not None:
                    failed += 1
                    ended(waiting.pop(0), failure)
            look(Situation(tuple(waiting), tuple(running), finished, failed))
            time.sleep(_LOOK_SECONDS)


def _has_no_room(job: Job, room: Room) -> Failure | None:
    """What to say of a job that not even the empty cluster has room for; None where it has."""
    try:
        room.refuse_what_never_fits(job.name, job.demand)
    except UserError as error:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a") as log:
            log.write(f"{error}\n")
        return Failure(2, str(error))
    return None


def _take_ended(running: list[Running]) -> Iterator[tuple[Job, Failure | None]]:
    """Take those that have ended out of the list, and yield each with how it failed if it did."""
    for process in list(running):
        status = process.status
        if status is not None:
            running.remove(process)
            process.ask_to_end()  # which closes the pipe
            yield process.job, process.failure(status) if status else None


@contextmanager
def _ending(running: list[Running], grace_seconds: float) -> Iterator[None]:
    """Leave no process behind: each has time for a checkpoint; a second Ctrl-C kills them."""
    try:
        yield
    finally:
        until = time.monotonic() + grace_seconds
        for process in running:
            process.ask_to_end()
        try:
            for process in running:
                process.end(until)
        except BaseException:
            for process in running:
                process.end(0.0)
            raise
