"""What stands on a page of a run's metrics."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from recsys_mtl.config import UserError
from recsys_mtl.data.features import REJECT_REASONS
from recsys_mtl.exporter.actor import RunExporter
from recsys_mtl.exporter.snapshot import Attempt, CheckpointInfo, Snapshot
from recsys_mtl.gradients.conflicts import PairCounts
from recsys_mtl.gradients.methods import gradnorm, pcgrad
from recsys_mtl.gradients.methods.contract import Diagnostic
from recsys_mtl.metrics.columns import Column, trace_columns
from recsys_mtl.metrics.phases import PHASE_BUCKETS_SECONDS, PHASES
from tests.unit.exporter.pages import Page, read_page, value
from tests.unit.exporter.snapshots import INFO, NUMBERS, snapshot
from tests.unit.metrics.records import (
    GRADOPS_COLUMNS,
    MADE_UP_COLUMNS,
    TASKS,
    UNIFORM_COLUMNS,
    record,
    weighting,
)

OF_EVERY_RUN = {"task_weight", "task_coefficient", "task_gradient_norm", "gradient_cosine"}
"""Gauges of a step that do not depend on the method."""


def page_of(sent: Snapshot, columns: Sequence[Column] = GRADOPS_COLUMNS) -> Page:
    exporter = RunExporter(replace(INFO, columns=tuple(columns)))
    exporter.update(Attempt("a", ()), sent)
    exporter.show(exporter.status().view)
    return read_page(exporter.page())


def families_of(columns: Sequence[Column]) -> set[str]:
    """Names of the families of a run with these columns, without the project's prefix."""
    sent = snapshot(record(weighed=weighting()), columns=columns, evaluation=NUMBERS)
    return {name.removeprefix("recsys_mtl_") for name in page_of(sent, columns)}


def test_each_task_has_one_series_of_each_gauge() -> None:
    sent = replace(snapshot(evaluation=NUMBERS), window=dict.fromkeys(TASKS, NUMBERS["wish"]))
    page = page_of(sent)
    for name in ("weight", "coefficient", "contribution", "gradient_norm", "share_kept"):
        assert len(page[f"recsys_mtl_task_{name}"].samples) == len(TASKS)
        for task in TASKS:
            assert value(page, f"task_{name}", task=task) == sent.row[f"{name}_{task}"]
    for name, key in {"auc": "auc", "loss": "log_loss", "calibration": "calibration"}.items():
        assert len(page[f"recsys_mtl_task_{name}"].samples) == 2 * len(TASKS)
        for task in TASKS:
            evaluated = value(page, f"task_{name}", task=task, split="eval")
            assert evaluated == NUMBERS[task][key]
            recent = value(page, f"task_{name}", task=task, split="train_window")
            assert recent == NUMBERS["wish"][key]


def test_each_pair_of_tasks_has_one_cosine() -> None:
    cosines = page_of(snapshot())["recsys_mtl_gradient_cosine"]
    found = {(s.labels["task"], s.labels["other_task"]): s.value for s in cosines.samples}
    assert found.keys() == {("purchase", "cart"), ("purchase", "wish"), ("cart", "wish")}
    assert found["purchase", "cart"] == pytest.approx(-0.48)


def test_what_a_method_of_one_s_own_declares_is_served_with_its_own_words() -> None:
    asked = weighting(pull=[0.25, 0.5, math.nan], step_radius=2.5, cornered=True)
    records = [record(weighed=w) for w in (asked, weighting(cornered=False), asked)]
    page = page_of(snapshot(*records, columns=MADE_UP_COLUMNS), MADE_UP_COLUMNS)
    assert value(page, "task_pull", task="cart") == 0.5
    assert math.isnan(value(page, "task_pull", task="wish"))
    assert value(page, "method_step_radius") == 2.5
    assert value(page, "cornered_steps") == 2
    assert page["recsys_mtl_task_pull"].documentation == "How hard the task pulls."
    assert page["recsys_mtl_method_step_radius"].documentation == "How far the step may go."
    counter = page["recsys_mtl_cornered_steps"]
    assert (counter.type, counter.documentation) == (
        "counter",
        "Steps where: The step had nowhere to go.",
    )


@pytest.mark.parametrize(
    ("columns", "own"),
    [
        (GRADOPS_COLUMNS, {"task_contribution", "task_share_kept", "min_norm_steps"}),
        (MADE_UP_COLUMNS, {"task_pull", "method_step_radius", "cornered_steps"}),
        (trace_columns(TASKS, pcgrad.DIAGNOSTICS), {"task_share_kept"}),
        (trace_columns(TASKS, gradnorm.DIAGNOSTICS), {"task_training_rate", "task_target_norm"}),
        (UNIFORM_COLUMNS, set()),
    ],
    ids=["gradops", "made up", "pcgrad", "gradnorm", "uniform"],
)
def test_a_run_has_the_families_of_its_own_method_alone(
    columns: Sequence[Column], own: set[str]
) -> None:
    of_every_run = families_of(UNIFORM_COLUMNS)
    assert of_every_run >= OF_EVERY_RUN
    assert families_of(columns) == of_every_run | own


def test_pairs_of_a_search_are_counters_by_layer_and_table() -> None:
    layers = ("bottom.layers.0", "tables.item")
    columns = trace_columns(TASKS, (), layers)
    counts = PairCounts(torch.tensor([2, 0]), torch.tensor([3, 1]))
    searched = replace(record(weighed=weighting()), conflicts=counts)
    page = page_of(snapshot(searched, searched, columns=columns), columns)
    assert value(page, "layer_conflicting_pairs", layer="bottom.layers.0") == 4
    assert value(page, "layer_conflicting_pairs", layer="tables.item") == 0
    assert value(page, "layer_compared_pairs", layer="tables.item") == 2
    family = page["recsys_mtl_layer_conflicting_pairs"]
    assert (family.type, len(family.samples)) == ("counter", 2)
    assert "recon.threshold" in family.documentation
    assert not any("layer" in name for name in page_of(snapshot()))


def test_what_was_never_measured_is_served_as_nan() -> None:
    never = record(weighed=weighting((1.5, 1.0, 0.5)), compared=False)
    page = page_of(snapshot(never))
    for name in ("contribution", "share_kept", "gradient_norm"):
        samples = page[f"recsys_mtl_task_{name}"].samples
        assert [math.isnan(sample.value) for sample in samples] == [True] * len(TASKS)
    assert value(page, "min_norm_steps") == 0
    assert value(page, "task_weight", task="wish") == 0.5


def test_a_diagnostic_that_would_double_a_family_of_every_run_is_refused() -> None:
    families = families_of(UNIFORM_COLUMNS)
    per_task = {name.removeprefix("task_") for name in families if name.startswith("task_")}
    flags = {name.removesuffix("_steps") for name in families if name.endswith("_steps")}
    assert {"auc", "weight"} <= per_task
    assert {"compared", "skipped"} <= flags
    for diagnostic in (
        *(Diagnostic(name, "Something else.") for name in per_task),
        *(Diagnostic(name, "Something else.", per_task=False, flag=True) for name in flags),
    ):
        with pytest.raises(UserError, match=f"'{diagnostic.name}'"):
            trace_columns(TASKS, [diagnostic])


def test_the_run_s_progress_is_served() -> None:
    before = time.time()
    page = page_of(snapshot())
    assert value(page, "last_step") == 100
    assert value(page, "rows_per_second") == 1234.5
    assert before <= value(page, "updated_timestamp_seconds") <= time.time()


def test_names_start_with_the_project_s_and_counters_end_in_total() -> None:
    page = page_of(
        snapshot(record(rows=(64, 2, 0, 0, 0, 0)), record(rows=(32, 0, 1, 0, 0, 0), skipped=True))
    )
    assert all(name.startswith("recsys_mtl_") for name in page)
    samples = [sample for family in page.values() for sample in family.samples]
    assert all(sample.labels["run"] == "demo" for sample in samples)
    counters = {
        sample.name: sample.value
        for family in page.values()
        if family.type == "counter" and family.name != "recsys_mtl_rejected_rows"
        for sample in family.samples
    }
    assert counters == {
        "recsys_mtl_steps_total": 20,
        "recsys_mtl_rows_total": 96,
        "recsys_mtl_null_values_total": 7,
        "recsys_mtl_outside_vocabulary_values_total": 9,
        "recsys_mtl_compared_steps_total": 2,
        "recsys_mtl_conflicting_steps_total": 2,
        "recsys_mtl_min_norm_steps_total": 0,
        "recsys_mtl_skipped_steps_total": 1,
        "recsys_mtl_audited_steps_total": 0,
        "recsys_mtl_opposing_steps_total": 0,
        "recsys_mtl_checkpoints_total": 0,
        "recsys_mtl_worker_restarts_total": 0,
    }
    rejected = {r: value(page, "rejected_rows", reason=r) for r in REJECT_REASONS}
    assert rejected == dict.fromkeys(REJECT_REASONS, 0) | {"unreadable": 2, "label": 1}
    totals = {sample.name for sample in samples if sample.name.endswith("_total")}
    assert totals == counters.keys() | {"recsys_mtl_rejected_rows_total"}


def test_seconds_of_each_phase_are_a_histogram_over_steps() -> None:
    histogram = page_of(snapshot(record(), record()))["recsys_mtl_step_phase_seconds"]
    for phase, expected in record().seconds.items():
        samples = [s for s in histogram.samples if s.labels["phase"] == phase]
        buckets = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
        assert [float(bound) for bound in buckets] == [*PHASE_BUCKETS_SECONDS, math.inf]
        for bound, steps in buckets.items():
            assert steps == (2 if expected <= float(bound) else 0), (phase, bound)
        sums = {s.name.rpartition("_")[2]: s.value for s in samples}
        assert sums["sum"] == pytest.approx(2 * expected)
        assert sums["count"] == 2
    assert {s.labels["phase"] for s in histogram.samples} == set(PHASES)


def test_a_checkpoint_is_shown_when_there_is_one() -> None:
    assert not any("checkpoint_" in name for name in page_of(snapshot()))
    made = CheckpointInfo(committed_at=5_000.0, seconds=1.5, size_bytes=4096.0)
    page = page_of(replace(snapshot(), checkpoint=made))
    assert value(page, "checkpoint_timestamp_seconds") == 5_000
    assert value(page, "checkpoint_duration_seconds") == 1.5
    assert value(page, "checkpoint_size_bytes") == 4096


def test_before_the_first_evaluation_there_is_no_series_of_it() -> None:
    page = page_of(replace(snapshot(), window=NUMBERS))
    splits = {s.labels["split"] for s in page["recsys_mtl_task_auc"].samples}
    assert splits == {"train_window"}


def test_an_auc_that_is_not_known_is_served_as_nan() -> None:
    unknown = NUMBERS | {"wish": dict.fromkeys(NUMBERS["wish"], math.nan)}
    page = page_of(replace(snapshot(evaluation=unknown), window=unknown))
    for split in ("train_window", "eval"):
        assert math.isnan(value(page, "task_auc", task="wish", split=split))
