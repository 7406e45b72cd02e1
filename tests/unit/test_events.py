"""What people and programs read of a run."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from recsys_mtl.events import choose_format, complain, tell


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    choose_format("auto")


def test_an_event_is_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    choose_format("json")
    tell("metrics", "metrics: http://h:1\n/metrics", url="http://h:1/metrics", tasks=("a", "b"))
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    age = datetime.now(UTC) - datetime.fromisoformat(told.pop("time"))
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert told == {
        "level": "info",
        "event": "metrics",
        "message": "metrics: http://h:1\n/metrics",
        "url": "http://h:1/metrics",
        "tasks": ["a", "b"],
    }


def test_numbers_that_are_not_finite_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    choose_format("json")
    tell("progress", "step 1", auc=math.nan, tasks={"buy": [math.inf, 0.5]})
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (told["auc"], told["tasks"]) == (None, {"buy": [None, 0.5]})


def test_people_read_the_sentence_alone(capsys: pytest.CaptureFixture[str]) -> None:
    choose_format("text")
    tell("run", "run [demo]: 3 rows", rows=3)
    complain("refused", "no such file")
    printed = capsys.readouterr()
    assert printed.out == "run [demo]: 3 rows\n"
    assert printed.err == "recsys-mtl: no such file\n"


def test_what_is_no_terminal_reads_json_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    choose_format("auto")
    complain("refused", "no such file")
    told = json.loads(capsys.readouterr().err)
    assert (told["level"], told["message"]) == ("error", "no such file")
