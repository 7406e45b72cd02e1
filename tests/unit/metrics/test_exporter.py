"""What a scrape over HTTP gets."""

import math
import time
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from recsys_mtl.metrics.exporter import RunExporter
from tests.unit.metrics.snapshots import TASKS, record, snapshot

EVALUATION = {task: {"auc": 0.7 + 0.1 * place} for place, task in enumerate(TASKS)}
PER_TASK = ("weight", "loss", "contribution", "gradient_norm", "share_kept")

Scrape = Callable[[], dict[str, Metric]]


@pytest.fixture
def exporter() -> RunExporter:
    return RunExporter("demo", TASKS)


@pytest.fixture
def scrape(exporter: RunExporter) -> Scrape:
    port = exporter.serve("127.0.0.1", 0)

    def families() -> dict[str, Metric]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    return families


def value(scraped: dict[str, Metric], family: str, **labels: str) -> float:
    """Of the one sample with exactly these labels, besides the run's."""
    wanted = {"run": "demo"} | labels
    (found,) = [s.value for s in scraped[family].samples if s.labels == wanted]
    return float(found)


def counters(scraped: dict[str, Metric]) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in scraped.values()
        if family.type == "counter"
        for sample in family.samples
    }


def test_nothing_is_served_before_the_first_snapshot(exporter: RunExporter, scrape: Scrape) -> None:
    assert scrape() == {}
    assert exporter.latest() is None


def test_each_task_has_one_series_of_each_gauge(exporter: RunExporter, scrape: Scrape) -> None:
    sent = snapshot(evaluation=EVALUATION, auc_window_purchase=0.81)
    exporter.update(sent)
    assert exporter.latest() == sent
    scraped = scrape()
    for column in PER_TASK:
        family = f"recsys_mtl_task_{column}"
        assert len(scraped[family].samples) == len(TASKS)
        for task in TASKS:
            assert value(scraped, family, task=task) == sent.row[f"{column}_{task}"]
    assert len(scraped["recsys_mtl_task_auc"].samples) == 2 * len(TASKS)
    auc = value(scraped, "recsys_mtl_task_auc", task="purchase", split="train_window")
    assert auc == 0.81
    for task in TASKS:
        auc = value(scraped, "recsys_mtl_task_auc", task=task, split="eval")
        assert auc == EVALUATION[task]["auc"]


def test_each_pair_of_tasks_has_one_cosine(exporter: RunExporter, scrape: Scrape) -> None:
    exporter.update(snapshot())
    cosines = scrape()["recsys_mtl_gradient_cosine"]
    found = {(s.labels["task"], s.labels["other_task"]): s.value for s in cosines.samples}
    assert found.keys() == {("purchase", "cart"), ("purchase", "wish"), ("cart", "wish")}
    assert found["purchase", "cart"] == pytest.approx(-0.48)


def test_the_run_s_progress_is_served(exporter: RunExporter, scrape: Scrape) -> None:
    before = time.time()
    exporter.update(snapshot())
    scraped = scrape()
    assert value(scraped, "recsys_mtl_last_step") == 100
    assert value(scraped, "recsys_mtl_rows_per_second") == 1234.5
    updated = value(scraped, "recsys_mtl_updated_timestamp_seconds")
    assert before <= updated <= time.time()


def test_names_start_with_the_project_s_and_counters_end_in_total(
    exporter: RunExporter, scrape: Scrape
) -> None:
    exporter.update(snapshot(record(rows=(64, 2)), record(rows=(32, 0), skipped=True)))
    scraped = scrape()
    assert all(name.startswith("recsys_mtl_") for name in scraped)
    assert all(sample.labels["run"] == "demo" for f in scraped.values() for sample in f.samples)
    assert counters(scraped) == {
        "recsys_mtl_steps_total": 20,
        "recsys_mtl_rows_total": 96,
        "recsys_mtl_rejected_rows_total": 2,
        "recsys_mtl_null_values_total": 7,
        "recsys_mtl_conflicting_steps_total": 2,
        "recsys_mtl_min_norm_steps_total": 0,
        "recsys_mtl_skipped_steps_total": 1,
    }
    totals = {s.name for f in scraped.values() for s in f.samples if s.name.endswith("_total")}
    assert totals == counters(scraped).keys()


def test_counters_wait_and_gauges_follow_when_an_older_snapshot_arrives(
    exporter: RunExporter, scrape: Scrape
) -> None:
    exporter.update(snapshot(record(), record(), step=20))
    before = counters(scrape())
    exporter.update(snapshot(record(), step=10, loss_cart=0.9))
    scraped = scrape()
    assert counters(scraped) == before
    assert value(scraped, "recsys_mtl_task_loss", task="cart") == 0.9
    exporter.update(snapshot(record(), record(), record(), step=30))
    after = counters(scrape())
    assert after["recsys_mtl_steps_total"] == 30
    assert after["recsys_mtl_rows_total"] == 3 * 64


def test_evaluation_stays_until_the_next_one(exporter: RunExporter, scrape: Scrape) -> None:
    exporter.update(snapshot(evaluation=EVALUATION))
    exporter.update(snapshot(step=40))
    auc = {"task": "cart", "split": "eval"}
    assert value(scrape(), "recsys_mtl_task_auc", **auc) == EVALUATION["cart"]["auc"]
    assert value(scrape(), "recsys_mtl_steps") == 40
    exporter.update(snapshot(step=60, evaluation=EVALUATION | {"cart": {"auc": 0.99}}))
    assert value(scrape(), "recsys_mtl_task_auc", **auc) == 0.99


def test_before_the_first_evaluation_there_is_no_series_of_it(
    exporter: RunExporter, scrape: Scrape
) -> None:
    exporter.update(snapshot())
    splits = {s.labels["split"] for s in scrape()["recsys_mtl_task_auc"].samples}
    assert splits == {"train_window"}


def test_an_auc_that_is_not_known_is_served_as_nan(exporter: RunExporter, scrape: Scrape) -> None:
    exporter.update(snapshot(evaluation=EVALUATION | {"wish": {"auc": math.nan}}))
    scraped = scrape()
    for split in ("train_window", "eval"):
        assert math.isnan(value(scraped, "recsys_mtl_task_auc", task="wish", split=split))


def test_a_taken_port_is_an_error(exporter: RunExporter) -> None:
    port = exporter.serve("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        RunExporter("other", TASKS).serve("127.0.0.1", port)
