"""What the dashboard and the rules ask Prometheus for."""

import json
import re
from collections.abc import Iterator, Sequence

from pipelines.dashboard_panels import DASHBOARD, fill, read_panels, read_variables, repeated

METRICS = (
    "recsys_mtl_audited_steps_total",
    "recsys_mtl_checkpoint_duration_seconds",
    "recsys_mtl_checkpoint_size_bytes",
    "recsys_mtl_checkpoint_timestamp_seconds",
    "recsys_mtl_checkpoints_total",
    "recsys_mtl_compared_steps_total",
    "recsys_mtl_conflicting_steps_total",
    "recsys_mtl_gradient_cosine",
    "recsys_mtl_last_step",
    "recsys_mtl_layer_compared_pairs_total",
    "recsys_mtl_layer_conflicting_pairs_total",
    "recsys_mtl_min_norm_steps_total",
    "recsys_mtl_null_values_total",
    "recsys_mtl_opposing_steps_total",
    "recsys_mtl_outside_vocabulary_values_total",
    "recsys_mtl_rejected_rows_total",
    "recsys_mtl_rows_per_second",
    "recsys_mtl_rows_total",
    "recsys_mtl_run_alpha",
    "recsys_mtl_run_end_timestamp_seconds",
    "recsys_mtl_run_info",
    "recsys_mtl_run_start_timestamp_seconds",
    "recsys_mtl_run_state",
    "recsys_mtl_run_workers",
    "recsys_mtl_skipped_steps_total",
    "recsys_mtl_step_phase_seconds_bucket",
    "recsys_mtl_step_phase_seconds_count",
    "recsys_mtl_step_phase_seconds_sum",
    "recsys_mtl_steps_total",
    "recsys_mtl_task_auc",
    "recsys_mtl_task_calibration",
    "recsys_mtl_task_coefficient",
    "recsys_mtl_task_contribution",
    "recsys_mtl_task_gradient_norm",
    "recsys_mtl_task_loss",
    "recsys_mtl_task_share_kept",
    "recsys_mtl_task_weight",
    "recsys_mtl_updated_timestamp_seconds",
    "recsys_mtl_worker_restarts_total",
)
"""Every name that the page of a GradOPS run with recon may have in front of a sample."""


def queries(
    run: str, rate_window: str = "1m", span: str = "1h", metrics: Sequence[str] = METRICS
) -> list[tuple[str, str]]:
    """Title of its panel and PromQL of every query, with the dashboard's variables replaced.

    Args:
        metrics: names that the run has, from which panels that repeat follow.
    """
    known = {"run": run, "rate_window": rate_window, "span": span}
    options = {
        variable.name: variable.options(metrics_in(fill(variable.selector, **known), metrics))
        for variable in read_variables()
    }
    return [
        (panel.title, fill(query.promql, **known))
        for panel in repeated(read_panels(), options)
        for query in panel.queries
    ]


def annotation_queries(run: str) -> list[tuple[str, str]]:
    """Name and PromQL of what is marked in all panels; without data while nothing happens."""
    annotations = json.loads(DASHBOARD.read_text())["annotations"]["list"]
    return [(a["name"], fill(a["expr"], run=run, rate_window="1m", span="1h")) for a in annotations]


def metrics_in(promql: str, metrics: Sequence[str] = METRICS) -> Iterator[str]:
    """Names of the metrics that a query asks for; those of recording rules have a colon.

    Args:
        metrics: names that the run has; those that match are asked for by `__name__`.
    """
    for selector in re.findall(r"{([^}]*__name__[^}]*)}", promql):
        matchers = re.findall(r'__name__(=~|!~)"([^"]*)"', selector)
        yield from (
            metric
            for metric in metrics
            if all((how == "=~") == bool(re.fullmatch(text, metric)) for how, text in matchers)
        )
    without_strings = re.sub(r'"[^"]*"', '""', promql)
    yield from re.findall(r"\brecsys_mtl[\w:]+", without_strings)
