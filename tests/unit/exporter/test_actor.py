"""What a scrape over HTTP gets, as reports, attempts and the end of a run come in."""

import time
from collections.abc import Callable

import pytest

from recsys_mtl.exporter.actor import RunExporter
from recsys_mtl.exporter.snapshot import STATES, Attempt
from tests.unit.exporter.pages import Page, counts, scrape, value
from tests.unit.exporter.snapshots import INFO, NUMBERS, snapshot
from tests.unit.metrics.records import record

FIRST, SECOND, THIRD = (Attempt(key, (f"tables of {key}",)) for key in "abc")

Scrape = Callable[[], Page]


@pytest.fixture
def exporter() -> RunExporter:
    return RunExporter(INFO)


@pytest.fixture
def page(exporter: RunExporter) -> Scrape:
    """A page, after the driver has asked how training stands."""
    port = exporter.serve("127.0.0.1", [0], None)

    def scraped() -> Page:
        exporter.show(exporter.status().view)
        return scrape(port)

    return scraped


def test_before_training_there_is_what_the_driver_knows(
    exporter: RunExporter, page: Scrape
) -> None:
    scraped = page()
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
    exporter: RunExporter, page: Scrape, state: str
) -> None:
    exporter.update(FIRST, snapshot(evaluation=NUMBERS))
    before = time.time()
    exporter.end(state)  # type: ignore[arg-type]
    scraped = page()
    assert {s: value(scraped, "run_state", state=s) for s in STATES} == dict.fromkeys(
        STATES, 0.0
    ) | {state: 1.0}
    assert before <= value(scraped, "run_end_timestamp_seconds") <= time.time()
    assert value(scraped, "task_auc", task="cart", split="eval") == NUMBERS["cart"]["auc"]


def test_counts_wait_and_gauges_follow_when_an_older_snapshot_arrives(
    exporter: RunExporter, page: Scrape
) -> None:
    exporter.update(FIRST, snapshot(record(), record(), step=20))
    before = counts(page())
    exporter.update(FIRST, snapshot(record(), step=10, weight_cart=0.9))
    scraped = page()
    assert counts(scraped) == before
    assert value(scraped, "task_weight", task="cart") == 0.9
    exporter.update(FIRST, snapshot(record(), record(), record(), step=30))
    scraped = page()
    assert value(scraped, "steps") == 30
    assert value(scraped, "rows") == 3 * 64


def test_every_attempt_but_the_first_is_a_restart(exporter: RunExporter, page: Scrape) -> None:
    assert value(page(), "worker_restarts") == 0
    for restarts, attempt in enumerate((FIRST, SECOND, THIRD)):
        exporter.begin(attempt)
        exporter.begin(attempt)
        assert value(page(), "worker_restarts") == restarts
    assert exporter.status().view.attempts == (FIRST, SECOND, THIRD)


def test_an_attempt_whose_beginning_was_not_heard_counts_with_its_first_report(
    exporter: RunExporter, page: Scrape
) -> None:
    exporter.begin(FIRST)
    for _ in range(2):
        exporter.update(SECOND, snapshot())
        assert value(page(), "worker_restarts") == 1


def test_evaluation_stays_until_the_next_one(exporter: RunExporter, page: Scrape) -> None:
    exporter.update(FIRST, snapshot(evaluation=NUMBERS))
    exporter.update(FIRST, snapshot(step=40))
    auc = {"task": "cart", "split": "eval"}
    assert value(page(), "task_auc", **auc) == NUMBERS["cart"]["auc"]
    assert value(page(), "steps") == 40
    better = NUMBERS["cart"] | {"auc": 0.99}
    exporter.update(FIRST, snapshot(step=60, evaluation=NUMBERS | {"cart": better}))
    assert value(page(), "task_auc", **auc) == 0.99


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
