"""What rank 0 sends while the exporter answers, is slow, or does not answer."""

from types import SimpleNamespace
from typing import Any

import pytest

from recsys_mtl.exporter import client as feed
from recsys_mtl.exporter.client import ExporterFeed
from recsys_mtl.exporter.snapshot import Attempt
from tests.unit.exporter.snapshots import snapshot


class Actor:
    """Takes calls as an actor's handle does; `answers` holds the calls that it has answered."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.begun: list[Attempt] = []
        self.attempts: list[Attempt] = []
        self.questions = 0
        self.answers: set[object] = set()
        self.begin = SimpleNamespace(remote=self.begun.append)
        self.update = SimpleNamespace(remote=self._update)
        self.stop_asked = SimpleNamespace(remote=self._stop_asked)

    def _update(self, attempt: Attempt, sent: Any) -> object:
        self.sent.append(sent.step)
        self.attempts.append(attempt)
        return ("update", len(self.sent))

    def _stop_asked(self) -> object:
        self.questions += 1
        return ("stop_asked", self.questions)


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Actor:
    made = Actor()
    monkeypatch.setattr(feed, "_is_there", lambda call: call in made.answers)
    monkeypatch.setattr(feed.ray, "wait", lambda calls, timeout: made.answers.update(calls))
    monkeypatch.setattr(feed.ray, "get", lambda call: True)
    return made


def test_a_slow_exporter_gets_the_newest_snapshot_and_no_queue(actor: Actor) -> None:
    feeding = ExporterFeed(actor)
    for step in (1, 2, 3):
        feeding.send(snapshot(step=step))
    assert actor.sent == [1]
    actor.answers.add(("update", 1))
    feeding.send(snapshot(step=4))
    assert actor.sent == [1, 4]


def test_every_report_says_of_which_attempt_it_is(actor: Actor) -> None:
    for _ in range(2):
        feeding = ExporterFeed(actor)
        feeding.begin(["user: rank 0"], [])
        feeding.send(snapshot())
    assert actor.attempts == actor.begun
    assert [attempt.sharding for attempt in actor.begun] == [("user: rank 0",)] * 2
    assert len({attempt.key for attempt in actor.begun}) == 2


def test_the_last_snapshot_arrives_although_one_is_under_way(actor: Actor) -> None:
    feeding = ExporterFeed(actor)
    feeding.send(snapshot(step=1))
    feeding.send(snapshot(step=2))
    feeding.close()
    assert actor.sent == [1, 2]
    assert {("update", 1), ("update", 2)} <= actor.answers, "both were waited for"


def test_the_sign_to_stop_is_asked_for_one_question_at_a_time(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    feeding = ExporterFeed(actor)
    assert [feeding.stop_asked() for _ in range(3)] == [False] * 3
    assert actor.questions == 1, "a question that is not answered is not repeated"
    now += 60
    assert not feeding.stop_asked()
    assert actor.questions == 1
    actor.answers.add(("stop_asked", 1))
    assert feeding.stop_asked()
    assert feeding.stop_asked(), "it stays up"


def test_other_ranks_feed_nobody() -> None:
    feeding = ExporterFeed(None)
    feeding.begin([], [])
    feeding.send(snapshot())
    feeding.close()
    assert feeding.stop_asked() is False
