"""What a person sees: the check of a log, the progress line, the table at the end."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from recsys_mtl.config import RunConfig
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.metrics.exporter import Snapshot

console = Console(highlight=False, soft_wrap=True)
_SECONDS_BETWEEN_LINES = 10.0  # where lines cannot be redrawn


def show_log(part: str, url: str, config: RunConfig) -> None:
    """Read a log's footers and say what is there.

    Raises:
        DataError: it cannot be trained on.
    """
    manifest = read_manifest(url, config.data)
    largest = max(group.rows for group in manifest.row_groups)
    console.print(
        f"data.{part}: {manifest.rows:,} rows in {len(manifest.files):,} file(s), "
        f"{len(manifest.row_groups):,} row group(s) of at most {largest:,} rows: {url}"
    )
    ids = [f.column or n for n, f in config.data.id_features()]
    dense = [f.column or n for n, f in config.data.dense_features()]
    console.print(f"  {len(ids)} id features: {', '.join(ids) or 'none'}")
    console.print(f"  {len(dense)} dense features: {', '.join(dense) or 'none'}")
    labels = [f"{t} ({c})" if t != c else t for t, c in config.data.labels.items()]
    console.print(f"  {len(labels)} label(s): {', '.join(labels)}")


class ProgressLine:
    """Follows a run in a thread of its own, between `with` and its end."""

    def __init__(
        self,
        latest: Callable[[], Snapshot | None],
        sharding: Callable[[], list[str] | None],
        task_names: tuple[str, ...],
    ) -> None:
        """Follow what the two functions return.

        Args:
            latest: the newest snapshot, or None.
            sharding: lines on where the tables lie, printed once; None before that is known.
        """
        self._latest, self._sharding, self._tasks = latest, sharding, task_names
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join(timeout=10)

    def _follow(self) -> None:
        shown, shown_at, sharding = -1, 0.0, None
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while not self._stopped.wait(0.5):
                if sharding is None and (sharding := self._sharding()) is not None:
                    for line in sharding:
                        console.print(line)
                snapshot = self._latest()
                if snapshot is None or snapshot.step == shown:
                    continue
                line = progress_line(snapshot, self._tasks)
                if console.is_terminal:
                    live.update(line, refresh=True)
                elif time.monotonic() - shown_at < _SECONDS_BETWEEN_LINES:
                    continue
                else:
                    console.print(line)
                shown, shown_at = snapshot.step, time.monotonic()


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


def show_result(result: Mapping[str, Any], run_url: str) -> None:
    """The table a task, and where everything is."""
    table = Table(
        title=f"run {result['run']}: {result['rows']:,} rows in {result['steps']:,} steps"
    )
    for column in ("task", "AUC", "log-loss", "mean w", "positives", "rows"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, numbers in result["tasks"].items():
        table.add_row(
            task,
            _number(numbers["auc"]),
            _number(numbers["log_loss"]),
            _number(numbers["mean_weight"]),
            f"{numbers['positives']:,}",
            f"{numbers['rows']:,}",
        )
    console.print(table)
    for task, numbers in result["tasks"].items():
        if numbers["auc"] is None:
            known = f"{numbers['positives']} of {numbers['rows']} known labels are positive"
            console.print(f"{task}: no AUC on data.eval, where {known}; it needs both kinds")
        if numbers["not_finite"]:
            console.print(
                f"{task}: {numbers['not_finite']:,} predictions on data.eval are not finite and "
                "stand in no number above"
            )
    if result["skipped_steps"]:
        console.print(
            f"{result['skipped_steps']:,} steps were skipped, their gradients not being finite"
        )
    if result["rejected_rows"]:
        console.print(f"{result['rejected_rows']:,} rows were left out as unusable")
    for text, name in (
        ("result", "result.json"),
        ("traces", "traces.png"),
        ("trace", "trace/"),
        ("configuration", "config.yaml"),
        ("checkpoints", ""),
    ):
        console.print(f"{text + ':':15}{run_url}/{name}")


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
