"""The line that a person sees while a run goes on."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.live import Live

from recsys_mtl.driver.events import console, is_json, log_event
from recsys_mtl.driver.repeating import repeating
from recsys_mtl.exporter.snapshot import Snapshot, Status

_SECONDS_BETWEEN_LINES = 10.0  # where lines cannot be redrawn


@contextmanager
def showing_progress(
    status: Callable[[], Status | None], task_names: tuple[str, ...]
) -> Iterator[None]:
    """Follow a run on a thread of its own, between `with` and its end.

    Args:
        status: how it stands; None where that is not known.
    """
    # A notebook counts as a terminal, but redraws by widgets that need not be installed.
    redraws = console.is_terminal and not console.is_jupyter and not is_json()
    live = Live(console=console, auto_refresh=False, transient=True) if redraws else None
    with live or nullcontext():
        line = _ProgressLine(status, task_names, live)
        with repeating(line.look, seconds=0.5, name="progress"):
            yield


class _ProgressLine:
    """What was shown so far."""

    def __init__(
        self,
        status: Callable[[], Status | None],
        task_names: tuple[str, ...],
        live: Live | None,
    ) -> None:
        self._status, self._tasks, self._live = status, task_names, live
        self._shown, self._shown_at = -1, 0.0
        self._sharding_shown = False

    def look(self) -> None:
        """Show what is new."""
        status = self._status()
        if status is None:
            return
        if status.view.attempts and not self._sharding_shown:
            self._sharding_shown = True
            for line in status.view.attempts[0].sharding:
                log_event("sharding", line)
            for line in status.view.attempts[0].warm_start:
                log_event("warm_start", line)
        snapshot = status.view.snapshot
        if snapshot is None or snapshot.step == self._shown:
            return
        line = progress_line(snapshot, self._tasks)
        if self._live is not None:
            self._live.update(line, refresh=True)
        elif time.monotonic() - self._shown_at < _SECONDS_BETWEEN_LINES:
            return
        else:
            log_event("progress", line, **_progress_fields(snapshot, self._tasks))
        self._shown, self._shown_at = snapshot.step, time.monotonic()


def progress_line(snapshot: Snapshot, task_names: tuple[str, ...]) -> str:
    """One line: epoch, step, rows a second, and for each task loss, window AUC and weight."""
    row = snapshot.row
    tasks = "  ".join(
        f"{t} loss {row[f'loss_{t}']:.4f} auc {number_or_dash(row[f'auc_window_{t}'])} "
        f"w {row[f'weight_{t}']:.2f}"
        for t in task_names
    )
    epoch = snapshot.step / snapshot.last_step * snapshot.epochs
    return (
        f"epoch {epoch:.2f}/{snapshot.epochs:.4g}  step {snapshot.step}/{snapshot.last_step}  "
        f"{snapshot.rows_per_second:,.0f} rows/s  {tasks}"
    )


def _progress_fields(snapshot: Snapshot, task_names: tuple[str, ...]) -> dict[str, Any]:
    row = snapshot.row
    return {
        "step": snapshot.step,
        "last_step": snapshot.last_step,
        "rows_per_second": snapshot.rows_per_second,
        "tasks": {
            task: {
                "loss": row[f"loss_{task}"],
                "auc": row[f"auc_window_{task}"],
                "weight": row[f"weight_{task}"],
            }
            for task in task_names
        },
    }


def number_or_dash(value: float | None) -> str:
    """Four decimals, or a dash for what is not known."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
