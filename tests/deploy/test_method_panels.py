"""The dashboard shows what a run's method reports, whichever method it is."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipelines.dashboard_panels import Option, fill, read_panels, read_variables, repeated
from recsys_mtl.exporter.actor import RunExporter
from recsys_mtl.exporter.snapshot import Attempt, CheckpointInfo
from recsys_mtl.gradients.methods import (
    cagrad,
    gradnorm,
    gradops,
    gradvac,
    imtl_g,
    mgda,
    pcgrad,
    pcgrad_dw,
)
from recsys_mtl.gradients.methods.contract import Diagnostic
from recsys_mtl.metrics.columns import trace_columns
from tests.deploy.dashboard import METRICS, metrics_in, queries
from tests.deploy.test_prometheus_rules import RECORDED, RULES
from tests.unit.exporter.pages import read_page
from tests.unit.exporter.snapshots import INFO, NUMBERS, snapshot
from tests.unit.metrics.records import MADE_UP, TASKS, record, weighting

KNOWN = {"run": "r", "rate_window": "1m", "span": "1h"}
METHODS: dict[str, tuple[Diagnostic, ...]] = {
    "gradops": gradops.DIAGNOSTICS,
    "pcgrad": pcgrad.DIAGNOSTICS,
    "pcgrad_dw": pcgrad_dw.DIAGNOSTICS,
    "gradvac": gradvac.DIAGNOSTICS,
    "cagrad": cagrad.DIAGNOSTICS,
    "imtl_g": imtl_g.DIAGNOSTICS,
    "mgda": mgda.DIAGNOSTICS,
    "gradnorm": gradnorm.DIAGNOSTICS,
    "uniform": (),
    "made up": MADE_UP,
}


def metrics_of(diagnostics: Sequence[Diagnostic], layers: Sequence[str] = ()) -> list[str]:
    """Names in front of the samples of a finished run's page, sorted."""
    columns = tuple(trace_columns(TASKS, diagnostics, layers))
    exporter = RunExporter(replace(INFO, columns=columns))
    sent = snapshot(record(weighed=weighting()), columns=columns, evaluation=NUMBERS)
    checkpoint = CheckpointInfo(committed_at=5_000.0, seconds=1.5, size_bytes=4096.0)
    exporter.update(Attempt("a", ()), replace(sent, checkpoint=checkpoint))
    exporter.end("finished")
    exporter.show(exporter.status().view)
    page = read_page(exporter.page())
    return sorted({sample.name for family in page.values() for sample in family.samples})


def own_panels(metrics: Sequence[str]) -> list[str]:
    return [title for title, _ in queries("r", metrics=metrics) if title.startswith("Method: ")]


def test_dashboard_and_rules_are_held_to_the_names_that_a_page_has() -> None:
    assert metrics_of(gradops.DIAGNOSTICS, ["bottom.layers.0"]) == sorted(METRICS)


def test_alerts_ask_only_for_what_runs_of_any_method_have() -> None:
    for rule in RULES:
        assert set(metrics_in(rule["expr"])) <= {*metrics_of(()), *RECORDED}, rule


@pytest.mark.parametrize("method", METHODS)
def test_each_number_of_a_method_has_a_panel_and_nothing_else_has(method: str) -> None:
    diagnostics = METHODS[method]
    numbers = sorted(
        f"{'task' if d.per_task else 'method'}_{d.name}" for d in diagnostics if not d.flag
    )
    metrics = metrics_of(diagnostics)
    asked = dict(queries("r", metrics=metrics))
    titles = [f"Method: {name.partition('_')[2]}" for name in numbers] or ["Method: none"]
    assert sorted(own_panels(metrics)) == sorted(titles)
    for name in numbers:
        promql = asked[f"Method: {name.partition('_')[2]}"]
        assert list(metrics_in(promql)) == [f"recsys_mtl_{name}"]


@pytest.mark.parametrize("method", METHODS)
def test_the_flags_of_a_method_and_no_other_counter_stand_beside_the_conflicts(method: str) -> None:
    diagnostics = METHODS[method]
    promqls = [q for title, q in queries("r") if title == "Conflicts"]
    metrics = metrics_of(diagnostics)
    asked = {metric for promql in promqls for metric in metrics_in(promql, metrics)}
    flags = {f"recsys_mtl_{d.name}_steps_total" for d in diagnostics if d.flag}
    conflicts = {"recsys_mtl_conflicting_steps_total", "recsys_mtl_compared_steps_total"}
    assert asked == conflicts | flags


@pytest.mark.parametrize(
    ("count", "places"),
    [
        (0, [(0, 0, 24)]),
        (1, [(0, 0, 24)]),
        (2, [(0, 0, 12), (12, 0, 12)]),
        (4, [(0, 0, 8), (8, 0, 8), (16, 0, 8), (0, 8, 8)]),
    ],
)
def test_repeated_panels_stand_side_by_side_and_move_what_is_below(
    count: int, places: list[tuple[int, int, int]]
) -> None:
    panels = read_panels()
    (above,) = [panel for panel in panels if panel.repeat]
    options = [Option(f"text_{i}", f"task_value_{i}") for i in range(count)]
    laid_out = repeated(panels, {"diagnostic": options})
    found = [panel for panel in laid_out if panel.repeat]
    assert [(p.x, p.y - above.y, p.width) for p in found] == places
    moved = max(y for _, y, _ in places)
    below = [(panel.title, panel.y + moved) for panel in panels if panel.y > above.y]
    assert [(panel.title, panel.y) for panel in laid_out[-len(below) :]] == below
    for option, panel in zip(options, found, strict=False):
        assert panel.title == f"Method: {option.text}"
        assert panel.queries[0].promql == f'max by (task) (recsys_mtl_{option.value}{{run="$run"}})'


def test_the_variable_of_the_panels_is_filled_by_the_chosen_run() -> None:
    (variable,) = read_variables()
    assert variable.label == "__name__"
    assert 'run="r"' in fill(variable.selector, **KNOWN)
