"""An exporter that Ray made anew goes on from what the driver has of the one that was lost."""

import time

from recsys_mtl.exporter.actor import RunExporter
from recsys_mtl.exporter.snapshot import Attempt
from tests.unit.exporter.pages import counts, scrape, value
from tests.unit.exporter.snapshots import INFO, NUMBERS, snapshot
from tests.unit.metrics.records import record

FIRST, SECOND, THIRD = (Attempt(key, (f"tables of {key}",)) for key in "abc")


def test_pages_show_no_more_than_the_driver_could_hand_to_a_successor() -> None:
    lost, exporter = RunExporter(INFO), RunExporter(INFO)
    port = lost.serve("127.0.0.1", [0], None)
    lost.update(FIRST, snapshot(record(), step=10))
    lost.show(lost.status().view)
    last_heard = lost.status()
    lost.update(FIRST, snapshot(record(), record(), step=20))
    seen = counts(scrape(port))
    assert seen["recsys_mtl_steps_total", "demo"] == 10
    port = exporter.serve("127.0.0.1", [0], None, last_heard)
    assert counts(scrape(port)) == seen


def test_a_successor_goes_on_from_the_highest_counts_that_were_shown() -> None:
    lost, exporter = RunExporter(INFO), RunExporter(INFO)
    lost.update(FIRST, snapshot(record(), record(), step=20))
    lost.update(SECOND, snapshot(record(), step=10))  # the workers are back at a checkpoint
    port = exporter.serve("127.0.0.1", [0], None, lost.status())
    seen = counts(scrape(port))
    assert seen["recsys_mtl_steps_total", "demo"] == 20
    assert seen["recsys_mtl_rows_total", "demo"] == 2 * 64
    exporter.update(SECOND, snapshot(record(), record(), record(), step=30))
    exporter.show(exporter.status().view)
    scraped = counts(scrape(port))
    assert scraped["recsys_mtl_steps_total", "demo"] == 30
    assert [key for key in seen if scraped[key] < seen[key]] == []


def test_a_successor_takes_over_what_was_heard_before_and_since() -> None:
    lost, exporter = RunExporter(INFO), RunExporter(INFO)
    for attempt in (FIRST, SECOND):
        lost.begin(attempt)
    lost.update(SECOND, snapshot(record(), record(), step=20, evaluation=NUMBERS))
    lost.page()
    exporter.begin(THIRD)  # workers may be faster than the driver, and stand at a checkpoint
    exporter.update(THIRD, snapshot(record(), step=10, weight_cart=0.9))
    port = exporter.serve("127.0.0.1", [0], None, lost.status())
    exporter.show(exporter.status().view)
    scraped = scrape(port)
    assert value(scraped, "worker_restarts") == 2
    assert value(scraped, "rows") == 2 * 64
    assert value(scraped, "steps") == 20
    assert value(scraped, "task_weight", task="cart") == 0.9
    assert value(scraped, "task_auc", task="cart", split="eval") == NUMBERS["cart"]["auc"]
    assert exporter.status().scrapes == 2


def test_a_successor_that_has_heard_of_the_end_keeps_it() -> None:
    lost, exporter = RunExporter(INFO), RunExporter(INFO)
    lost.update(FIRST, snapshot())
    exporter.end("finished")
    port = exporter.serve("127.0.0.1", [0], None, lost.status())
    exporter.show(exporter.status().view)
    scraped = scrape(port)
    assert value(scraped, "run_state", state="finished") == 1
    assert value(scraped, "run_end_timestamp_seconds") == exporter.status().view.ended_at


def test_a_successor_invents_no_report_and_no_state() -> None:
    lost, exporter = RunExporter(INFO), RunExporter(INFO)
    lost.update(FIRST, snapshot())
    lost.end("failed")
    time.sleep(0.01)
    scraped = scrape(exporter.serve("127.0.0.1", [0], None, lost.status()))
    view = lost.status().view
    assert value(scraped, "updated_timestamp_seconds") == view.updated_at
    assert value(scraped, "run_end_timestamp_seconds") == view.ended_at
    assert value(scraped, "run_state", state="failed") == 1
