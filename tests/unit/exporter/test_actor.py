"""What a scrape over HTTP gets."""

import math
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from recsys_mtl.data.features import REJECT_REASONS
from recsys_mtl.exporter.actor import RunExporter
from recsys_mtl.exporter.snapshot import STATES, Attempt, CheckpointInfo
from recsys_mtl.metrics.phases import PHASE_BUCKETS_SECONDS, PHASES
from tests.unit.exporter.snapshots import FACTS, TASKS, record, snapshot

NUMBERS = {
    task: {"auc": 0.7 + 0.1 * place, "log_loss": 0.3 + place, "calibration": 1.1 + place}
    for place, task in enumerate(TASKS)
}
FIRST, SECOND, THIRD = (Attempt(key, (f"tables of {key}",)) for key in "abc")
OF_SPLITS = {"auc": "auc", "loss": "log_loss", "calibration": "calibration"}
OF_TASKS = ("weight", "contribution", "gradient_norm", "share_kept")

Scrape = Callable[[], dict[str, Metric]]


@pytest.fixture
def exporter() -> RunExporter:
    return RunExporter(FACTS)


@pytest.fixture
def scrape(exporter: RunExporter) -> Scrape:
    """A page, after the driver has asked how training stands."""
    port = exporter.serve("127.0.0.1", [0], None)

    def scraped() -> dict[str, Metric]:
        exporter.show(exporter.status().view)
        return page_of(port)

    return scraped


def page_of(port: int) -> dict[str, Metric]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(scraped: dict[str, Metric], family: str, **labels: str) -> float:
    """Of the one sample with exactly these labels, besides the run's."""
    wanted = {"run": "demo"} | labels
    (found,) = [s.value for s in scraped[f"recsys_mtl_{family}"].samples if s.labels == wanted]
    return float(found)


def counts(scraped: dict[str, Metric]) -> dict[tuple[str, ...], float]:
    """Whatever must never go down: counters, and the parts of histograms."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in scraped.values()
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def test_before_training_there_is_what_the_driver_knows(
    exporter: RunExporter, scrape: Scrape
) -> None:
    scraped = scrape()
    about = {"method": "gradops", "scope": "all", "device": "cpu", "version": "0.1.0"}
    assert value(scraped, "run_info", **about) == 1
    assert value(scraped, "run_alpha") == 0.5
    assert value(scraped, "run_workers") == 2
    assert value(scraped, "run_start_timestamp_seconds") == 1_000
    states = {state: value(scraped, "run_state", state=state) for state in STATES}
    assert states == dict.fromkeys(STATES, 0.0) | {"running": 1.0}
    assert not any("task" in name or "end_timestamp" in name for name in scraped)
    assert exporter.status().view.snapshot is None


@pytest.mark.parametrize("state", ["finished", "failed", "preempted"])
def test_the_end_shows_its_state_its_time_and_the_last_numbers(
    exporter: RunExporter, scrape: Scrape, state: str
) -> None:
    exporter.update(FIRST, snapshot(evaluation=NUMBERS))
    before = time.time()
    exporter.end(state)  # type: ignore[arg-type]
    scraped = scrape()
    assert {s: value(scraped, "run_state", state=s) for s in STATES} == dict.fromkeys(
        STATES, 0.0
    ) | {state: 1.0}
    assert before <= value(scraped, "run_end_timestamp_seconds") <= time.time()
    assert value(scraped, "task_auc", task="cart", split="eval") == NUMBERS["cart"]["auc"]


def test_each_task_has_one_series_of_each_gauge(exporter: RunExporter, scrape: Scrape) -> None:
    sent = replace(snapshot(evaluation=NUMBERS), window=dict.fromkeys(TASKS, NUMBERS["wish"]))
    exporter.update(FIRST, sent)
    assert exporter.status().view.snapshot == sent
    scraped = scrape()
    for name in OF_TASKS:
        assert len(scraped[f"recsys_mtl_task_{name}"].samples) == len(TASKS)
        for task in TASKS:
            assert value(scraped, f"task_{name}", task=task) == sent.row[f"{name}_{task}"]
    for name, key in OF_SPLITS.items():
        assert len(scraped[f"recsys_mtl_task_{name}"].samples) == 2 * len(TASKS)
        for task in TASKS:
            evaluated = value(scraped, f"task_{name}", task=task, split="eval")
            assert evaluated == NUMBERS[task][key]
            recent = value(scraped, f"task_{name}", task=task, split="train_window")
            assert recent == NUMBERS["wish"][key]


def test_each_pair_of_tasks_has_one_cosine(exporter: RunExporter, scrape: Scrape) -> None:
    exporter.update(FIRST, snapshot())
    cosines = scrape()["recsys_mtl_gradient_cosine"]
    found = {(s.labels["task"], s.labels["other_task"]): s.value for s in cosines.samples}
    assert found.keys() == {("purchase", "cart"), ("purchase", "wish"), ("cart", "wish")}
    assert found["purchase", "cart"] == pytest.approx(-0.48)


def test_the_run_s_progress_is_served(exporter: RunExporter, scrape: Scrape) -> None:
    before = time.time()
    exporter.update(FIRST, snapshot())
    scraped = scrape()
    assert value(scraped, "last_step") == 100
    assert value(scraped, "rows_per_second") == 1234.5
    assert before <= value(scraped, "updated_timestamp_seconds") <= time.time()


def test_names_start_with_the_project_s_and_counters_end_in_total(
    exporter: RunExporter, scrape: Scrape
) -> None:
    exporter.update(FIRST, snapshot(record(rows=(64, 2, 0)), record(rows=(32, 0, 1), skipped=True)))
    scraped = scrape()
    assert all(name.startswith("recsys_mtl_") for name in scraped)
    samples = [sample for family in scraped.values() for sample in family.samples]
    assert all(sample.labels["run"] == "demo" for sample in samples)
    counters = {
        sample.name: sample.value
        for family in scraped.values()
        if family.type == "counter" and family.name != "recsys_mtl_rejected_rows"
        for sample in family.samples
    }
    assert counters == {
        "recsys_mtl_steps_total": 20,
        "recsys_mtl_rows_total": 96,
        "recsys_mtl_null_values_total": 7,
        "recsys_mtl_compared_steps_total": 2,
        "recsys_mtl_conflicting_steps_total": 2,
        "recsys_mtl_min_norm_steps_total": 0,
        "recsys_mtl_skipped_steps_total": 1,
        "recsys_mtl_audited_steps_total": 0,
        "recsys_mtl_opposing_steps_total": 0,
        "recsys_mtl_checkpoints_total": 0,
        "recsys_mtl_worker_restarts_total": 0,
    }
    rejected = {r: value(scraped, "rejected_rows", reason=r) for r in REJECT_REASONS}
    assert rejected == {"unreadable": 2, "label": 1}
    totals = {sample.name for sample in samples if sample.name.endswith("_total")}
    assert totals == counters.keys() | {"recsys_mtl_rejected_rows_total"}


def test_seconds_of_each_phase_are_a_histogram_over_steps(
    exporter: RunExporter, scrape: Scrape
) -> None:
    exporter.update(FIRST, snapshot(record(), record()))
    histogram = scrape()["recsys_mtl_step_phase_seconds"]
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


def test_counts_wait_and_gauges_follow_when_an_older_snapshot_arrives(
    exporter: RunExporter, scrape: Scrape
) -> None:
    exporter.update(FIRST, snapshot(record(), record(), step=20))
    before = counts(scrape())
    exporter.update(FIRST, snapshot(record(), step=10, weight_cart=0.9))
    scraped = scrape()
    assert counts(scraped) == before
    assert value(scraped, "task_weight", task="cart") == 0.9
    exporter.update(FIRST, snapshot(record(), record(), record(), step=30))
    scraped = scrape()
    assert value(scraped, "steps") == 30
    assert value(scraped, "rows") == 3 * 64


def test_every_attempt_but_the_first_is_a_restart(exporter: RunExporter, scrape: Scrape) -> None:
    assert value(scrape(), "worker_restarts") == 0
    for restarts, attempt in enumerate((FIRST, SECOND, THIRD)):
        exporter.begin(attempt)
        exporter.begin(attempt)
        assert value(scrape(), "worker_restarts") == restarts
    assert exporter.status().view.attempts == (FIRST, SECOND, THIRD)


def test_an_attempt_whose_beginning_was_not_heard_counts_with_its_first_report(
    exporter: RunExporter, scrape: Scrape
) -> None:
    exporter.begin(FIRST)
    for _ in range(2):
        exporter.update(SECOND, snapshot())
        assert value(scrape(), "worker_restarts") == 1


def test_pages_show_no_more_than_the_driver_could_hand_to_a_successor() -> None:
    lost, exporter = RunExporter(FACTS), RunExporter(FACTS)
    port = lost.serve("127.0.0.1", [0], None)
    lost.update(FIRST, snapshot(record(), step=10))
    lost.show(lost.status().view)
    last_heard = lost.status()
    lost.update(FIRST, snapshot(record(), record(), step=20))
    seen = counts(page_of(port))
    assert seen["recsys_mtl_steps_total", "demo"] == 10
    port = exporter.serve("127.0.0.1", [0], None, last_heard)
    assert counts(page_of(port)) == seen


def test_a_successor_goes_on_from_the_highest_counts_that_were_shown() -> None:
    lost, exporter = RunExporter(FACTS), RunExporter(FACTS)
    lost.update(FIRST, snapshot(record(), record(), step=20))
    lost.update(SECOND, snapshot(record(), step=10))  # the workers are back at a checkpoint
    port = exporter.serve("127.0.0.1", [0], None, lost.status())
    seen = counts(page_of(port))
    assert seen["recsys_mtl_steps_total", "demo"] == 20
    assert seen["recsys_mtl_rows_total", "demo"] == 2 * 64
    exporter.update(SECOND, snapshot(record(), record(), record(), step=30))
    exporter.show(exporter.status().view)
    scraped = counts(page_of(port))
    assert scraped["recsys_mtl_steps_total", "demo"] == 30
    assert [key for key in seen if scraped[key] < seen[key]] == []


def test_a_successor_takes_over_what_was_heard_before_and_since() -> None:
    lost, exporter = RunExporter(FACTS), RunExporter(FACTS)
    for attempt in (FIRST, SECOND):
        lost.begin(attempt)
    lost.update(SECOND, snapshot(record(), record(), step=20, evaluation=NUMBERS))
    lost.page()
    exporter.begin(THIRD)  # workers may be faster than the driver, and stand at a checkpoint
    exporter.update(THIRD, snapshot(record(), step=10, weight_cart=0.9))
    port = exporter.serve("127.0.0.1", [0], None, lost.status())
    exporter.show(exporter.status().view)
    scraped = page_of(port)
    assert value(scraped, "worker_restarts") == 2
    assert value(scraped, "rows") == 2 * 64
    assert value(scraped, "steps") == 20
    assert value(scraped, "task_weight", task="cart") == 0.9
    assert value(scraped, "task_auc", task="cart", split="eval") == NUMBERS["cart"]["auc"]
    assert exporter.status().scrapes == 2


def test_a_successor_that_has_heard_of_the_end_keeps_it() -> None:
    lost, exporter = RunExporter(FACTS), RunExporter(FACTS)
    lost.update(FIRST, snapshot())
    exporter.end("finished")
    port = exporter.serve("127.0.0.1", [0], None, lost.status())
    exporter.show(exporter.status().view)
    scraped = page_of(port)
    assert value(scraped, "run_state", state="finished") == 1
    assert value(scraped, "run_end_timestamp_seconds") == exporter.status().view.ended_at


def test_a_successor_invents_no_report_and_no_state() -> None:
    lost, exporter = RunExporter(FACTS), RunExporter(FACTS)
    lost.update(FIRST, snapshot())
    lost.end("failed")
    time.sleep(0.01)
    scraped = page_of(exporter.serve("127.0.0.1", [0], None, lost.status()))
    view = lost.status().view
    assert value(scraped, "updated_timestamp_seconds") == view.updated_at
    assert value(scraped, "run_end_timestamp_seconds") == view.ended_at
    assert value(scraped, "run_state", state="failed") == 1


def test_a_checkpoint_is_shown_when_there_is_one(exporter: RunExporter, scrape: Scrape) -> None:
    exporter.update(FIRST, snapshot())
    assert not any("checkpoint_" in name for name in scrape())
    made = CheckpointInfo(committed_at=5_000.0, seconds=1.5, size_bytes=4096.0)
    exporter.update(FIRST, replace(snapshot(), checkpoint=made))
    scraped = scrape()
    assert value(scraped, "checkpoint_timestamp_seconds") == 5_000
    assert value(scraped, "checkpoint_duration_seconds") == 1.5
    assert value(scraped, "checkpoint_size_bytes") == 4096


def test_evaluation_stays_until_the_next_one(exporter: RunExporter, scrape: Scrape) -> None:
    exporter.update(FIRST, snapshot(evaluation=NUMBERS))
    exporter.update(FIRST, snapshot(step=40))
    auc = {"task": "cart", "split": "eval"}
    assert value(scrape(), "task_auc", **auc) == NUMBERS["cart"]["auc"]
    assert value(scrape(), "steps") == 40
    better = NUMBERS["cart"] | {"auc": 0.99}
    exporter.update(FIRST, snapshot(step=60, evaluation=NUMBERS | {"cart": better}))
    assert value(scrape(), "task_auc", **auc) == 0.99


def test_before_the_first_evaluation_there_is_no_series_of_it(
    exporter: RunExporter, scrape: Scrape
) -> None:
    exporter.update(FIRST, replace(snapshot(), window=NUMBERS))
    splits = {s.labels["split"] for s in scrape()["recsys_mtl_task_auc"].samples}
    assert splits == {"train_window"}


def test_an_auc_that_is_not_known_is_served_as_nan(exporter: RunExporter, scrape: Scrape) -> None:
    unknown = NUMBERS | {"wish": dict.fromkeys(NUMBERS["wish"], math.nan)}
    exporter.update(FIRST, replace(snapshot(evaluation=unknown), window=unknown))
    scraped = scrape()
    for split in ("train_window", "eval"):
        assert math.isnan(value(scraped, "task_auc", task="wish", split=split))


def test_scrapes_are_counted_and_a_page_is_made_once_for_many(
    exporter: RunExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[None] = []
    monkeypatch.setattr(
        "recsys_mtl.exporter.actor.generate_latest", lambda _: made.append(None) or b"page"
    )
    for _ in range(3):
        assert exporter.page() == b"page"
    assert (exporter.status().scrapes, len(made)) == (3, 1)
    exporter.update(FIRST, snapshot())
    exporter.page()
    assert len(made) == 1, "the driver does not know of it yet"
    for _ in range(3):
        exporter.show(exporter.status().view)
        exporter.page()
    assert len(made) == 2


def test_the_sign_to_stop_stays_up(exporter: RunExporter) -> None:
    assert exporter.stop_asked() is False
    exporter.ask_to_stop()
    assert exporter.stop_asked() is True
