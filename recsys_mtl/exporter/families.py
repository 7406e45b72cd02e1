"""Makes the metric families of a run's page.

Names start with `recsys_mtl_`, carry base units, and end in `_total` on counters alone. Labels come
from closed sets: the run, its tasks, splits, phases, reasons and states, and the layers and tables
of its model. What the method reports comes from the run's columns: `recsys_mtl_task_<quantity>` for
a number per task, `recsys_mtl_method_<quantity>` for a number per step, and
`recsys_mtl_<flag>_steps_total`.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate, groupby
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from recsys_mtl.exporter.snapshot import STATES, CheckpointInfo, RunInfo, RunView, Snapshot
from recsys_mtl.metrics.phases import PHASE_BUCKETS_SECONDS, PHASES

_BOUNDS = (*map(str, PHASE_BUCKETS_SECONDS), "+Inf")
_COUNTERS = {
    "steps": "Finished training steps.",
    "rows": "Rows trained.",
    "null_values": "Nulls met in the columns read.",
    "outside_vocabulary_values": "Values met that the vocabulary of a one_hot feature lacks.",
    "compared_steps": "Steps that compared the tasks' gradients.",
    "conflicting_steps": "Steps with conflicting tasks.",
    "skipped_steps": "Steps skipped as not finite.",
    "audited_steps": "Steps that compared cheaper coefficients with every task's gradient.",
    "opposing_steps": "Audited steps that went against a task.",
    "checkpoints": "Checkpoints committed.",
}
_SPLIT_GAUGES = {
    "auc": "Area under the ROC curve, of recent training steps or the whole evaluation set.",
    "log_loss": "Mean binary cross-entropy (nats per row).",
    "calibration": "Mean prediction over the observed rate.",
}
_SERVED_OF_EVERY_RUN = ("weight", "coefficient", "gradient_norm", "cosine")
"""Quantities of columns that have a gauge whatever the method is."""


def families(view: RunView) -> Iterator[Metric]:
    """Yields the families of one page, each series once."""
    yield from _run_families(view)
    if view.snapshot is not None:
        info, snapshot = view.info, view.snapshot
        yield from _split_families(info.run, snapshot)
        yield from _column_families(info, snapshot.row)
        yield from _progress_families(info.run, snapshot)
        yield from _counter_families(info, view.counts)
        yield from _layer_families(info, view.counts)
        yield _phase_family(info.run, view.counts)
        if snapshot.checkpoint is not None:
            yield from _checkpoint_families(info.run, snapshot.checkpoint)


def counts_of(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    """Returns whatever counts up, by the name of its family and the values of its labels.

    A histogram's buckets are cumulative, as a page shows them; its sum stands beside them.
    """
    totals = snapshot.totals
    counts: dict[tuple[str, ...], float] = {
        (name,): totals[name] for name in _COUNTERS if name in totals
    }
    counts["steps",] = snapshot.step
    counts["null_values",] = sum(totals["nulls"].values())
    counts["outside_vocabulary_values",] = sum(totals["outside_vocabulary"].values())
    for flag, steps in totals["method_flag_steps"].items():
        counts[f"{flag}_steps",] = steps
    for reason, count in totals["rejected_rows"].items():
        counts["rejected_rows", reason] = count
    for quantity in ("conflicting_pairs", "compared_pairs"):
        for layer, pairs in totals[quantity].items():
            counts[f"layer_{quantity}", layer] = pairs
    for phase in PHASES:
        cumulative = accumulate(totals["phase_counts"][phase])
        for bound, count in zip(_BOUNDS, cumulative, strict=True):
            counts["step_phase_seconds", phase, bound] = count
        counts["step_phase_seconds", phase, "sum"] = totals["phase_seconds"][phase]
    return counts


def _gauge(name: str, text: str, run: str, values: Mapping[Any, float], *labels: str) -> Metric:
    """Makes a gauge with one series per key of `values`, whose parts are the `labels`."""
    family = GaugeMetricFamily(f"recsys_mtl_{name}", text, labels=["run", *labels])
    for key, value in values.items():
        family.add_metric([run, *key], value)
    return family


def _counter(name: str, text: str, run: str, values: Mapping[Any, float], *labels: str) -> Metric:
    """Makes a counter; the arguments are those of `_gauge`."""
    family = CounterMetricFamily(f"recsys_mtl_{name}", text, labels=["run", *labels])
    for key, value in values.items():
        family.add_metric([run, *key], value)
    return family


def _run_families(view: RunView) -> Iterator[Metric]:
    info, run = view.info, view.info.run
    yield _gauge(
        "run_info",
        "What the run is; always 1.",
        run,
        {(info.method, info.scope, info.device, info.version): 1.0},
        *("method", "scope", "device", "version"),
    )
    states = {(state,): float(state == view.state) for state in STATES}
    yield _gauge("run_state", "1 for the state the run is in.", run, states, "state")
    yield _gauge("run_alpha", "method.alpha.", run, {(): info.alpha})
    yield _gauge("run_workers", "Workers that train.", run, {(): float(info.workers)})
    yield _gauge(
        "run_start_timestamp_seconds", "When the command was started.", run, {(): info.started_at}
    )
    if view.ended_at is not None:
        yield _gauge("run_end_timestamp_seconds", "When the run ended.", run, {(): view.ended_at})
    yield _gauge(
        "updated_timestamp_seconds", "When rank 0 last reported.", run, {(): view.updated_at}
    )
    text = "Times all workers went on from a checkpoint, after one was lost."
    yield _counter("worker_restarts", text, run, {(): float(view.restarts)})


def _split_families(run: str, snapshot: Snapshot) -> Iterator[Metric]:
    splits = {"train_window": snapshot.window, "eval": snapshot.evaluation}
    for name, text in _SPLIT_GAUGES.items():
        values = {
            (task, split): numbers[task][name]
            for split, numbers in splits.items()
            for task in numbers
        }
        family = "loss" if name == "log_loss" else name
        yield _gauge(f"task_{family}", text, run, values, "task", "split")


def _column_families(info: RunInfo, row: Mapping[str, Any]) -> Iterator[Metric]:
    """Yields one gauge per quantity of the newest step that is served.

    A series is there from the first report on, and is NaN until its number was first measured.
    """
    served = (
        column
        for column in info.columns
        if column.quantity in _SERVED_OF_EVERY_RUN or (column.of_method and column.kind == "number")
    )
    for quantity, group in groupby(served, key=lambda column: column.quantity):
        columns = list(group)
        whose, labels = {
            0: ("method", ()),
            1: ("task", ("task",)),
            2: ("gradient", ("task", "other_task")),
        }[len(columns[0].tasks)]
        values = {column.tasks: row[column.name] for column in columns}
        yield _gauge(f"{whose}_{quantity}", columns[0].help, info.run, values, *labels)


def _progress_families(run: str, snapshot: Snapshot) -> Iterator[Metric]:
    yield _gauge("last_step", "Steps at the end of the run.", run, {(): snapshot.last_step})
    yield _gauge(
        "rows_per_second",
        "Rows trained per second over the last log interval.",
        run,
        {(): snapshot.rows_per_second},
    )


def _counter_families(info: RunInfo, counts: Mapping[tuple[str, ...], float]) -> Iterator[Metric]:
    flags = (column for column in info.columns if column.of_method and column.kind == "flag")
    of_method = {f"{flag.quantity}_steps": f"Steps where: {flag.help}" for flag in flags}
    for name, text in (_COUNTERS | of_method).items():
        yield _counter(name, text, info.run, {(): counts[name,]})
    rejected = {key[1:]: n for key, n in counts.items() if key[0] == "rejected_rows"}
    yield _counter("rejected_rows", "Rows left out as unusable.", info.run, rejected, "reason")


def _layer_families(info: RunInfo, counts: Mapping[tuple[str, ...], float]) -> Iterator[Metric]:
    """Yields a counter of pairs with one series per layer and table; none in runs without recon."""
    of_layers = (column for column in info.columns if column.layer)
    for quantity, group in groupby(of_layers, key=lambda column: column.quantity):
        columns, family = list(group), f"layer_{quantity}"
        pairs = {(column.layer,): counts.get((family, column.layer), 0.0) for column in columns}
        yield _counter(family, columns[0].help, info.run, pairs, "layer")


def _phase_family(run: str, counts: Mapping[tuple[str, ...], float]) -> Metric:
    family = HistogramMetricFamily(
        "recsys_mtl_step_phase_seconds",
        "Seconds of a step by phase, on rank 0's host.",
        labels=["run", "phase"],
    )
    for phase in PHASES:
        buckets = [(bound, counts["step_phase_seconds", phase, bound]) for bound in _BOUNDS]
        family.add_metric([run, phase], buckets, counts["step_phase_seconds", phase, "sum"])
    return family


def _checkpoint_families(run: str, checkpoint: CheckpointInfo) -> Iterator[Metric]:
    for name, text, value in (
        ("timestamp_seconds", "When the newest checkpoint was committed.", checkpoint.committed_at),
        ("duration_seconds", "How long the newest checkpoint took.", checkpoint.seconds),
        ("size_bytes", "Bytes of the newest checkpoint over all workers.", checkpoint.size_bytes),
    ):
        yield _gauge(f"checkpoint_{name}", text, run, {(): value})
