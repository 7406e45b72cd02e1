"""The run's Prometheus endpoint: one registry, one HTTP server, one snapshot at a time.

Runs as an actor that the driver makes, so that it outlives restarts of the workers. Rank 0 sends
it a `Snapshot` at every log interval and does not wait. Counters show the run's totals, which
travel with its checkpoints: a step that is trained again after a restart is not counted twice.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


@dataclass(frozen=True)
class Snapshot:
    """Where the run stands; plain numbers, the same whoever looks."""

    step: int
    """Finished steps."""
    last_step: int
    """Steps at the end of the run."""
    epochs: float
    """Epochs at the end of the run."""
    rows_per_second: float
    """Over the last log interval."""
    row: Mapping[str, Any]
    """The trace's row of that step."""
    totals: Mapping[str, Any]
    """`Totals.to_json()`."""
    evaluation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Task to the numbers of the newest evaluation."""


class RunExporter:
    """Serves a run's metrics over HTTP.

    Args:
        run: the run's name, a label of every series.
        task_names: the tasks, as labels.
    """

    def __init__(self, run: str, task_names: Sequence[str]) -> None:
        self._run, self._tasks = run, tuple(task_names)
        self._snapshot: Snapshot | None = None
        self._sharding: list[str] | None = None
        self._counters: dict[str, float] = {}
        self._updated_at = time.time()

    def serve(self, bind_address: str, port: int) -> int:
        """Answer scrapes at `bind_address`, and return the port; 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """
        registry = CollectorRegistry()
        registry.register(self)
        server, _ = start_http_server(port, addr=bind_address, registry=registry)
        return int(server.server_port)

    def begin(self, sharding: list[str]) -> None:
        """An attempt begins, with its tables lying as these lines say."""
        self._sharding = sharding

    def sharding(self) -> list[str] | None:
        """Lines that say where the newest attempt's tables lie; None before the first."""
        return self._sharding

    def update(self, snapshot: Snapshot) -> None:
        """Show `snapshot` from now on; what it has no evaluation for, keeps the one before."""
        if self._snapshot is not None and not snapshot.evaluation:
            known = self._snapshot.evaluation
            snapshot = Snapshot(**{**vars(snapshot), "evaluation": known})
        self._snapshot, self._updated_at = snapshot, time.time()

    def latest(self) -> Snapshot | None:
        """The newest snapshot; None before the first."""
        return self._snapshot

    def collect(self) -> Iterator[Metric]:
        """The families of one scrape."""
        snapshot = self._snapshot
        if snapshot is None:
            return
        yield from self._task_gauges(snapshot)
        yield from self._counters_of(snapshot)
        pairs = GaugeMetricFamily(
            "recsys_mtl_gradient_cosine",
            "Cosine of two tasks' gradients of the shared parameters.",
            labels=["run", "task", "other_task"],
        )
        for a, b in combinations(self._tasks, 2):
            pairs.add_metric([self._run, a, b], snapshot.row[f"cosine_{a}_{b}"])
        yield pairs
        for name, text, value in (
            ("last_step", "Steps at the end of the run.", snapshot.last_step),
            ("rows_per_second", "Over the last log interval.", snapshot.rows_per_second),
            ("updated_timestamp_seconds", "When rank 0 last reported.", self._updated_at),
        ):
            gauge = GaugeMetricFamily(f"recsys_mtl_{name}", text, labels=["run"])
            gauge.add_metric([self._run], value)
            yield gauge

    def _task_gauges(self, snapshot: Snapshot) -> Iterator[Metric]:
        auc = GaugeMetricFamily(
            "recsys_mtl_task_auc",
            "Area under the ROC curve: recent training steps, or the whole evaluation set.",
            labels=["run", "task", "split"],
        )
        for task in self._tasks:
            auc.add_metric([self._run, task, "train_window"], snapshot.row[f"auc_window_{task}"])
            if snapshot.evaluation:
                auc.add_metric([self._run, task, "eval"], snapshot.evaluation[task]["auc"])
        yield auc
        for name, column, text in (
            ("task_weight", "weight", "Weight w_i of the task's deconflicted gradient."),
            ("task_loss", "loss", "Mean loss over the last global batch."),
            ("task_contribution", "contribution", "R_i: how far the update serves the task."),
            ("task_gradient_norm", "gradient_norm", "Norm of the task's shared gradient."),
            ("task_share_kept", "share_kept", "Norm after deconfliction over norm before."),
        ):
            gauge = GaugeMetricFamily(f"recsys_mtl_{name}", text, labels=["run", "task"])
            for task in self._tasks:
                gauge.add_metric([self._run, task], snapshot.row[f"{column}_{task}"])
            yield gauge

    def _counters_of(self, snapshot: Snapshot) -> Iterator[Metric]:
        totals = snapshot.totals
        for name, text, value in (
            ("steps", "Finished training steps.", snapshot.step),
            ("rows", "Rows trained.", totals["rows"]),
            ("rejected_rows", "Rows left out as unusable.", totals["rejected_rows"]),
            ("null_values", "Nulls met in the columns read.", sum(totals["nulls"].values())),
            ("conflicting_steps", "Steps with conflicting tasks.", totals["conflicting_steps"]),
            ("min_norm_steps", "Steps that fell back to min-norm.", totals["min_norm_steps"]),
            ("skipped_steps", "Steps skipped as not finite.", totals["skipped_steps"]),
        ):
            # After a restart the run stands at its last checkpoint for a while; a counter that
            # went back would read as a reset of everything.
            self._counters[name] = max(self._counters.get(name, 0), value)
            counter = CounterMetricFamily(f"recsys_mtl_{name}", text, labels=["run"])
            counter.add_metric([self._run], self._counters[name])
            yield counter
