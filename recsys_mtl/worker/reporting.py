"""From step records to everything a person or a program watches.

Every worker calls the same methods at the same steps, since window AUC and null counts are sums
over all workers; rank 0 alone writes the trace and feeds the exporter.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys_mtl.config import UserError
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.schema import columns_read
from recsys_mtl.distributed.collectives import all_reduce_sum, broadcast_from_first
from recsys_mtl.distributed.planning import describe
from recsys_mtl.exporter.snapshot import CheckpointInfo, Snapshot
from recsys_mtl.metrics.auc import auc_from_histogram, summarise_binary
from recsys_mtl.metrics.columns import trace_columns
from recsys_mtl.metrics.record import BYTE_KINDS, StepRecord, Totals, record_rows
from recsys_mtl.metrics.trace import TraceWriter, next_attempt
from recsys_mtl.metrics.window import WindowMetrics
from recsys_mtl.worker.best import BestKeeper
from recsys_mtl.worker.counted_layers import counted_layers
from recsys_mtl.worker.host import SnapshotFeed
from recsys_mtl.worker.job import TrainJob
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.warm_start import WarmStartReport

_log = logging.getLogger(__name__)

_SKIPPED_IN_A_ROW = 100  # parameters that are not finite stay so: every later step is skipped
_FLUSH_ROWS = 2_000  # a part of the trace is a file: not one for every log interval


@dataclass(frozen=True)
class ReporterSummary:
    """What a checkpoint says of the steps so far, in plain numbers."""

    totals: Mapping[str, Any]
    """`Totals.to_json()`."""
    evaluation: Mapping[str, dict[str, float]]
    """The newest, task by task."""
    window_steps: int
    """Steps in the current window of the training AUC."""
    warm_start: Mapping[str, Any] | None
    """What the run took from another one; None where it began with random values."""
    best: Mapping[str, Any]
    """`BestKeeper.state_dict()`."""


class Reporter:
    """Collects the steps of one attempt."""

    def __init__(self, worker: Worker, feed: SnapshotFeed, job: TrainJob) -> None:
        self._totals = Totals()  # of the whole run; the seconds are this worker's own
        self._evaluation: dict[str, dict[str, float]] = {}  # the newest, task by task
        self.best = BestKeeper(job.config.training, job.eval.digest)
        """The best evaluation, and whether training is to end early."""
        self._checkpoint: CheckpointInfo | None = None  # the newest committed
        self._warm_start: Mapping[str, Any] | None = None
        self._warm_start_lines: Sequence[str] = ()
        self._context, self._plan, self._feed = worker.context, worker.plan, feed
        self._sharding = worker.model.tables.plan if worker.model.tables is not None else {}
        self._last_step = job.last_step
        self._tasks = job.config.task_names
        self._columns = trace_columns(
            self._tasks,
            worker.weigher.method.diagnostics,
            counted_layers(job.config, worker.model.body),
        )
        self._seldom = [column.name for column in self._columns if column.seldom]
        self._columns_read = columns_read(job.config.data)
        self._one_hot = [name for name, _ in job.config.data.one_hot_features()]
        self._window = WindowMetrics(
            len(self._tasks),
            job.config.training.auc_window_steps,
            self._context.device,
            weighted=job.config.data.weighs_rows,
        )
        self._recent: dict[str, dict[str, float]] = {}
        self._records: list[StepRecord] = []
        self._nulls = np.zeros(len(self._columns_read), dtype=np.int64)
        self._outside_vocabulary = np.zeros(len(self._one_hot), dtype=np.int64)
        self._reported_at = time.perf_counter()
        self._last_row: dict[str, Any] | None = None
        self._newest: dict[str, Any] = {}  # of the columns that are seldom measured
        self._rows_per_second = 0.0
        self._skipped_in_a_row = 0
        self._trace: TraceWriter | None = None
        self._attempt = 0
        self._unflushed = 0
        if self._context.rank == 0:
            url = f"{job.run_url}/trace"
            self._attempt = next_attempt(url)
            self._trace = TraceWriter(url, self._attempt, self._columns)

    def begin(self) -> None:
        """Let the driver know what this attempt trains with."""
        self._feed.begin(describe(self._sharding), self._warm_start_lines)

    def began_warm(self, report: WarmStartReport) -> None:
        """Remember what the run took from another one."""
        self._warm_start, self._warm_start_lines = report.to_json(), report.lines()

    def add(self, batch: ClickBatch, record: StepRecord, logits: Tensor) -> None:
        """Keep one step, on the device."""
        self._window.update(logits, batch.labels, batch.label_mask, batch.label_weights)
        self._records.append(record)
        if batch.rows:
            self._nulls += batch.nulls
            self._outside_vocabulary += batch.outside_vocabulary

    def report(self, step: int) -> None:
        """Reduce, count, write and send the steps since the last report, the last being `step`.

        Raises:
            UserError: on every worker, when training has stopped moving: nothing is finite.
        """
        if not self._records:
            return
        self._recent = self._window_numbers()
        self._count_values()
        sent = [sum(record.bytes_sent[kind] for record in self._records) for kind in BYTE_KINDS]
        all_sent = all_reduce_sum(torch.tensor(sent, device=self._context.device)).tolist()
        rows = record_rows(
            self._records,
            self._columns,
            last_step=step,
            attempt=self._attempt,
            steps_per_epoch=self._plan.steps_per_epoch,
        )
        rows[-1] |= {f"auc_window_{t}": self._recent[t]["auc"] for t in self._tasks}
        now = time.perf_counter()
        seconds, self._reported_at = now - self._reported_at, now
        self._totals.add(rows, self._columns, seconds)
        for kind, count in zip(BYTE_KINDS, all_sent, strict=True):
            self._totals.bytes_sent[kind] = self._totals.bytes_sent.get(kind, 0) + count
        self._records = []
        for row in rows:
            self._newest |= {k: row[k] for k in self._seldom if not math.isnan(row[k])}
        if self._trace is not None:
            self._trace.append(rows)
            self._unflushed += len(rows)
            if self._unflushed >= _FLUSH_ROWS:
                self._try_to_flush()
        self._send(rows[-1], sum(row["rows"] for row in rows) / seconds)
        self._last_row = rows[-1]
        self._stop_when_diverged(rows)

    def evaluated(self, step: int, evaluation: dict[str, dict[str, float]]) -> None:
        """Compare and show a new evaluation, of the last step that was reported."""
        self._evaluation = evaluation
        # Workers on other processors round otherwise, and all must agree on whether to end.
        score = torch.tensor(
            self.best.score(evaluation), dtype=torch.float64, device=self._context.device
        )
        self.best.add(step, evaluation, broadcast_from_first(score).item())
        self._send_again()

    def checkpointed(self, checkpoint: CheckpointInfo) -> None:
        """Show the checkpoint that every worker has just written its part of."""
        own = torch.tensor(checkpoint.size_bytes, dtype=torch.float64, device=self._context.device)
        self._checkpoint = replace(checkpoint, size_bytes=all_reduce_sum(own).item())
        self._send_again()

    def close(self) -> None:
        """Have the exporter know where training ended."""
        self._feed.close()

    def restart_clock(self) -> None:
        """Leave out of the rate what was no training: an evaluation, a checkpoint."""
        self._reported_at = time.perf_counter()

    def flush(self) -> None:
        """Have every reported step in the trace's files."""
        if self._trace is not None:
            self._trace.flush()
            self._unflushed = 0

    def summary_with_checkpoint(self) -> ReporterSummary:
        """What a checkpoint that is about to be saved says of the run, itself counted."""
        self._totals.checkpoints += 1
        return ReporterSummary(
            totals=self._totals.to_json(),
            evaluation=self._evaluation,
            window_steps=self._window.state_dict()["steps"],
            warm_start=self._warm_start,
            best=self.best.state_dict(),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """The training window's sums over all workers, by name, for the checkpoint."""
        saved = self._window.state_dict()
        return {
            "window.auc": all_reduce_sum(saved["auc"]),
            "window.binary": all_reduce_sum(saved["binary"]),
        }

    def load_state_dict(
        self, tensors: Mapping[str, Tensor], summary: ReporterSummary, saved_at: float
    ) -> None:
        """Go on from a checkpoint: rank 0 takes the sums over all workers, the others nothing.

        Args:
            tensors: as `state_dict` gives them.
            saved_at: Unix seconds.
        """
        self._totals = Totals.from_json(summary.totals)
        self._warm_start = summary.warm_start
        self._evaluation = dict(summary.evaluation)
        self.best.load_state_dict(summary.best)
        auc, binary = (
            tensors[name] if self._context.rank == 0 else torch.zeros_like(tensors[name])
            for name in ("window.auc", "window.binary")
        )
        self._window.load_state_dict({"auc": auc, "binary": binary, "steps": summary.window_steps})
        self._checkpoint = CheckpointInfo(saved_at, seconds=math.nan, size_bytes=math.nan)

    def _count_values(self) -> None:
        """Add what all workers have met since the last report to the totals."""
        own = np.concatenate([self._nulls, self._outside_vocabulary])
        met = all_reduce_sum(torch.from_numpy(own).to(self._context.device)).tolist()
        columns = len(self._columns_read)
        for totals, names, counts in (
            (self._totals.nulls, self._columns_read, met[:columns]),
            (self._totals.outside_vocabulary, self._one_hot, met[columns:]),
        ):
            for name, count in zip(names, counts, strict=True):
                totals[name] = totals.get(name, 0) + count
        self._nulls.fill(0)
        self._outside_vocabulary.fill(0)

    def _window_numbers(self) -> dict[str, dict[str, float]]:
        """Task to AUC, log-loss and calibration of recent steps, over all workers."""
        state = self._window.state()
        auc = auc_from_histogram(all_reduce_sum(state["auc"]))
        binary = summarise_binary(all_reduce_sum(state["binary"]))
        columns = torch.stack([auc, binary.log_loss, binary.calibration]).tolist()
        return {
            task: dict(zip(("auc", "log_loss", "calibration"), numbers, strict=True))
            for task, numbers in zip(self._tasks, zip(*columns, strict=True), strict=True)
        }

    def _try_to_flush(self) -> None:
        """Between checkpoints the rows can wait for a storage that does not answer."""
        try:
            self.flush()
        except OSError as error:
            _log.warning("the trace cannot be written now (%s); its rows are kept", error)

    def _stop_when_diverged(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._skipped_in_a_row = self._skipped_in_a_row + 1 if row["skipped"] else 0
        if self._skipped_in_a_row >= _SKIPPED_IN_A_ROW:
            raise UserError(
                f"the last {self._skipped_in_a_row} steps up to step {rows[-1]['step']} were "
                "skipped, their gradients not being finite: training has diverged; lower "
                "optimizer.*.learning_rate or set training.gradient_clip_norm, and start anew "
                "with --fresh"
            )

    def _send_again(self) -> None:
        if self._last_row is not None:
            self._send(self._last_row, self._rows_per_second)

    def _send(self, row: dict[str, Any], rows_per_second: float) -> None:
        self._rows_per_second = rows_per_second
        self._feed.send(
            Snapshot(
                step=row["step"],
                last_step=self._last_step,
                epochs=self._last_step / self._plan.steps_per_epoch,
                rows_per_second=rows_per_second,
                row=row | self._newest,
                totals=self._totals.to_json(),
                window=self._recent,
                evaluation=self._evaluation,
                checkpoint=self._checkpoint,
            )
        )
