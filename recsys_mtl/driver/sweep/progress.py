"""What a person sees of a sweep while it goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.live import Live

from recsys_mtl.driver.events import console, is_json, log_event
from recsys_mtl.driver.sweep.outcomes import Failure
from recsys_mtl.driver.sweep.report import reason_of
from recsys_mtl.driver.sweep.schedule import Job, Running, Situation

_REDRAW_SECONDS = 1.0
_TELLING_SHARE = 0.05  # of a cell, in the mean over those that run, from which time left is told
_SECONDS_BETWEEN_LINES = 30.0  # where lines cannot be redrawn


class SweepProgress:
    """Tells what happened to each cell, and how all of them stand."""

    def __init__(self, live: Live | None) -> None:
        """Redraw `live` where there is one, and else print a line now and then."""
        self._live, self._begun = live, time.monotonic()
        self._told_at = -float("inf")
        self._started = set[str]()
        self._first_with = dict[tuple[int, str], str]()  # how cells failed, to the first that did

    def look(self, situation: Situation) -> None:
        """Show how the cells stand."""
        for running in situation.running:
            if running.job.name not in self._started:
                self._started.add(running.job.name)
                self._tell(running.job, "started", "started")
        pause = _REDRAW_SECONDS if self._live else _SECONDS_BETWEEN_LINES
        if time.monotonic() - self._told_at < pause:
            return
        self._told_at = time.monotonic()
        steps = {running.job.name: running.steps() for running in situation.running}
        summary = self._summary(situation, steps)
        if self._live is not None:
            lines = [summary, *(_line_of(r, steps[r.job.name]) for r in situation.running)]
            self._live.update("\n".join(lines), refresh=True)
            return
        log_event(
            "sweep_progress",
            summary,
            finished=situation.finished,
            failed=situation.failed,
            waiting=len(situation.waiting),
            running={
                name: None if at is None else {"step": at[0], "last_step": at[1]}
                for name, at in steps.items()
            },
        )

    def ended(self, job: Job, failure: Failure | None) -> None:
        """Tell the end of a cell."""
        if failure is None:
            self._tell(job, "finished", "finished")
            return
        alike = failure.status, reason_of(job.name, failure.last_line)
        first = self._first_with.setdefault(alike, job.name)
        why = failure.last_line if first == job.name else f"as {first} did"
        sentence = f"failed with status {failure.status}: {why}; its log: {job.log}"
        self._tell(job, "failed", sentence, status=failure.status, last_line=failure.last_line)

    def _tell(self, job: Job, state: str, sentence: str, **more: Any) -> None:
        fields = {"cell": job.name, "state": state, "log": str(job.log), **more}
        log_event("cell", f"{job.name}: {sentence}", **fields)

    def _summary(self, now: Situation, steps: dict[str, tuple[int, int] | None]) -> str:
        """How many cells are where, and how long the rest may take."""
        parts = [f"cells: {now.finished} finished", f"{len(now.running)} running"]
        parts += [f"{len(now.waiting)} waiting"] if now.waiting else []
        parts += [f"{now.failed} failed"] if now.failed else []
        shares = sum(at[0] / at[1] for at in steps.values() if at is not None)
        # A cell that failed may have taken no time, and says nothing of the others.
        done = now.finished + shares
        left = len(now.running) - shares + len(now.waiting)
        # At the very beginning, what has passed is start-up and not training.
        if done >= _TELLING_SHARE * max(1, len(now.running)) and left > 0.01:
            # As if the cells that are left took as long as the others.
            parts.append(f"about {_duration((time.monotonic() - self._begun) * left / done)} left")
        return ", ".join(parts)


@contextmanager
def showing_sweep() -> Iterator[SweepProgress]:
    """Show a sweep's progress between `with` and its end."""
    redraws = console.is_terminal and not console.is_jupyter and not is_json()
    live = Live(console=console, auto_refresh=False, transient=True) if redraws else None
    with live or nullcontext():
        yield SweepProgress(live)


def _line_of(running: Running, at: tuple[int, int] | None) -> str:
    steps = "starting" if at is None else f"step {at[0]:,} of {at[1]:,}"
    return f"  {running.job.name}: {steps}, {_duration(time.monotonic() - running.started)}"


def _duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
