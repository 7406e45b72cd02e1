"""What a person sees: the check of a log, the progress line, the table at the end."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.live import Live
from rich.table import Table

from recsys_mtl.config import RunConfig
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.driver.events import console, is_json, tell
from recsys_mtl.driver.repeating import repeating
from recsys_mtl.exporter.snapshot import Snapshot, Status

_SECONDS_BETWEEN_LINES = 10.0  # where lines cannot be redrawn


def show_log(part: str, url: str, config: RunConfig) -> None:
    """Read a log's footers and say what is there.

    Raises:
        DataError: it cannot be trained on.
    """
    manifest = read_manifest(url, config.data)
    largest = max(group.rows for group in manifest.row_groups)
    ids = [f.column or n for n, f in config.data.id_features()]
    dense = [f.column or n for n, f in config.data.dense_features()]
    labels = [f"{t} ({c})" if t != c else t for t, c in config.data.labels.items()]
    lines = (
        f"data.{part}: {manifest.rows:,} rows in {len(manifest.files):,} file(s), "
        f"{len(manifest.row_groups):,} row group(s) of at most {largest:,} rows: {url}",
        f"  {len(ids)} id features: {', '.join(ids) or 'none'}",
        f"  {len(dense)} dense features: {', '.join(dense) or 'none'}",
        f"  {len(labels)} label(s): {', '.join(labels)}",
    )
    for line in lines:
        tell("log", line)


@contextmanager
def showing_progress(
    status: Callable[[], Status | None], task_names: tuple[str, ...]
) -> Iterator[None]:
    """Follow a run on a thread of its own, between `with` and its end.

    Args:
        status: how it stands; None where that is not known.
    """
    with (
        Live(console=console, auto_refresh=False, transient=True)
        if not is_json()
        else (nullcontext()) as live
    ):
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
                tell("sharding", line)
        snapshot = status.view.snapshot
        if snapshot is None or snapshot.step == self._shown:
            return
        line = progress_line(snapshot, self._tasks)
        if self._live is not None and console.is_terminal:
            self._live.update(line, refresh=True)
        elif time.monotonic() - self._shown_at < _SECONDS_BETWEEN_LINES:
            return
        else:
            tell("progress", line, **_progress_fields(snapshot, self._tasks))
        self._shown, self._shown_at = snapshot.step, time.monotonic()


def progress_line(snapshot: Snapshot, task_names: tuple[str, ...]) -> str:
    """One line: epoch, step, rows a second, and for each task loss, window AUC and weight."""
    row = snapshot.row
    tasks = "  ".join(
        f"{t} loss {row[f'loss_{t}']:.4f} auc {_number(row[f'auc_window_{t}'])} "
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


def show_result(result: Mapping[str, Any], run_url: str) -> None:
    """A table of the tasks, what is worth a second look, and where everything is."""
    sentence = f"run {result['run']}: {result['rows']:,} rows in {result['steps']:,} steps"
    if is_json():
        tell("result", sentence, url=run_url, result=dict(result))
    else:
        console.print(_table(sentence, result["tasks"]))
    for note in _notes(result):
        tell("note", note)
    if not is_json():
        for text, name in (
            ("result", "result.json"),
            ("traces", "traces.png"),
            ("trace", "trace/"),
            ("configuration", "config.yaml"),
            ("checkpoints", ""),
        ):
            console.print(f"{text + ':':15}{run_url}/{name}")


def _table(title: str, tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title=title)
    for column in ("task", "AUC", "log-loss", "mean w", "positives", "rows"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, numbers in tasks.items():
        table.add_row(
            task,
            _number(numbers["auc"]),
            _number(numbers["log_loss"]),
            _number(numbers["mean_weight"]),
            f"{numbers['positives']:,}",
            f"{numbers['rows']:,}",
        )
    return table


def _notes(result: Mapping[str, Any]) -> Iterator[str]:
    for task, numbers in result["tasks"].items():
        if numbers["auc"] is None:
            known = f"{numbers['positives']} of {numbers['rows']} known labels are positive"
            yield f"{task}: no AUC on data.eval, where {known}; it needs both kinds"
        if numbers["not_finite"]:
            yield (
                f"{task}: {numbers['not_finite']:,} predictions on data.eval are not finite and "
                "stand in no number above"
            )
    if result["skipped_steps"]:
        yield f"{result['skipped_steps']:,} steps were skipped, their gradients not being finite"
    if result["rejected_rows"]:
        yield f"{result['rejected_rows']:,} rows were left out as unusable"


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
