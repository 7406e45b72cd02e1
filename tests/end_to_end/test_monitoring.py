"""What Prometheus has of a run that lost its exporter and a worker while it was trained."""

import json
import math
import shutil
import subprocess
from typing import Any

import pytest

from tests.deploy.dashboard import METRICS, queries

from .monitored import KilledRun, Prometheus

TASKS = ("purchase", "cart", "wish")
KEPT = "10m"  # longer than the run


def values_of(series: list[dict[str, Any]], label: str) -> dict[str, float]:
    return {s["metric"][label]: float(s["value"][1]) for s in series}


def test_each_task_has_one_series_before_and_after_the_kills(
    killed_run: KilledRun, prometheus: Prometheus
) -> None:
    for metric in ('task_auc{split="train_window",', "task_weight{"):
        selector = f'recsys_mtl_{metric}run="{killed_run.name}"}}[{KEPT}]'
        counted = prometheus.ask(f"count by (task) (count_over_time({selector}))")
        assert values_of(counted, "task") == dict.fromkeys(TASKS, 1.0)
        spans = prometheus.ask(f"timestamp(last_over_time({selector}))")
        assert len(spans) == len(TASKS)


def test_counters_never_go_back_and_count_nothing_twice(
    killed_run: KilledRun, prometheus: Prometheus
) -> None:
    counting = f'{{__name__=~"recsys_mtl_.+_(total|count|sum|bucket)",run="{killed_run.name}"}}'
    names = {s["metric"]["__name__"] for s in prometheus.ask(f"last_over_time({counting}[{KEPT}])")}
    assert "recsys_mtl_step_phase_seconds_bucket" in names
    for name in names:
        resets = prometheus.ask(f'resets({name}{{run="{killed_run.name}"}}[{KEPT}])')
        assert [s["metric"] for s in resets if float(s["value"][1])] == [], name
    for series in (s for s in killed_run.pages[0] if "_total{" in s):
        values = [page[series] for page in killed_run.pages if series in page]
        assert values == sorted(values), f"{series} went back"
    result = json.loads((killed_run.place.folder / "runs/killed/result.json").read_text())
    for counter, expected in (
        ("steps", result["steps"]),
        ("rows", result["rows"]),
        ("conflicting_steps", result["conflicting_steps"]),
        ("worker_restarts", 1),
    ):
        name = f'recsys_mtl_{counter}_total{{run="{killed_run.name}"}}'
        (last,) = prometheus.ask(f"last_over_time({name}[{KEPT}])")
        assert float(last["value"][1]) == expected, counter
    rejected = prometheus.ask(
        f'last_over_time(recsys_mtl_rejected_rows_total{{run="{killed_run.name}"}}[{KEPT}])'
    )
    assert values_of(rejected, "reason") == result["rejected_rows_by_reason"]
    assert result["rejected_rows_by_reason"]["unreadable"] > 0


def test_the_end_is_seen_with_the_numbers_of_result_json(
    killed_run: KilledRun, prometheus: Prometheus
) -> None:
    states = prometheus.ask(
        f'last_over_time(recsys_mtl_run_state{{run="{killed_run.name}"}}[{KEPT}])'
    )
    expected = {"running": 0.0, "finished": 1.0, "failed": 0.0, "preempted": 0.0}
    assert values_of(states, "state") == expected
    result = json.loads((killed_run.place.folder / "runs/killed/result.json").read_text())
    for metric, key in (("auc", "auc"), ("loss", "log_loss"), ("calibration", "calibration")):
        selector = f'recsys_mtl_task_{metric}{{run="{killed_run.name}",split="eval"}}'
        last = values_of(prometheus.ask(f"last_over_time({selector}[{KEPT}])"), "task")
        assert last == {task: result["tasks"][task][key] for task in TASKS}
    assert not (prometheus.discovery / f"{killed_run.name}.json").exists()


@pytest.mark.parametrize(("panel", "promql"), queries("killed"))
def test_every_query_of_the_dashboard_returns_data(
    killed_run: KilledRun, prometheus: Prometheus, panel: str, promql: str
) -> None:
    series = prometheus.ask_range(promql, killed_run.started_at, killed_run.ended_at)
    numbers = [float(value) for s in series for _, value in s["values"]]
    assert any(math.isfinite(number) for number in numbers), promql


def test_the_shipped_rules_are_evaluated_without_errors(
    killed_run: KilledRun, prometheus: Prometheus
) -> None:
    rules = prometheus.rules()
    assert rules
    assert [r for r in rules if r["health"] != "ok"] == []
    recorded = prometheus.ask(
        f'last_over_time(recsys_mtl:rows:rate5m{{run="{killed_run.name}"}}[{KEPT}])'
    )
    assert len(recorded) == 1


def test_promtool_finds_nothing_to_say_about_the_page(killed_run: KilledRun) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "it comes with Prometheus"
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=killed_run.page, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_prometheus_has_all_that_dashboard_and_rules_may_ask_for_and_no_more(
    killed_run: KilledRun, prometheus: Prometheus
) -> None:
    selector = f'{{__name__=~"recsys_mtl_.+",run="{killed_run.name}"}}'
    series = prometheus.ask(f"count by (__name__) (last_over_time({selector}[{KEPT}]))")
    assert {s["metric"]["__name__"] for s in series} == set(METRICS)
