"""What people and programs read of a run."""

import json
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from recsys_mtl.driver.events import choose_format, log_error, log_event, tell_output_of


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    choose_format("auto")


def test_an_event_is_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    choose_format("json")
    log_event(
        "metrics", "metrics: http://h:1\n/metrics", url="http://h:1/metrics", tasks=("a", "b")
    )
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
    log_event("progress", "step 1", auc=math.nan, tasks={"buy": [math.inf, 0.5]})
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (told["auc"], told["tasks"]) == (None, {"buy": [None, 0.5]})


def test_people_read_the_sentence_alone(capsys: pytest.CaptureFixture[str]) -> None:
    choose_format("text")
    log_event("run", "run [demo]: 3 rows", rows=3)
    log_error("refused", "no such file")
    printed = capsys.readouterr()
    assert printed.out == "run [demo]: 3 rows\n"
    assert printed.err == "recsys-mtl: no such file\n"


def test_what_is_no_terminal_reads_json_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    choose_format("auto")
    log_error("refused", "no such file")
    told = json.loads(capsys.readouterr().err)
    assert (told["level"], told["message"]) == ("error", "no such file")


def test_threads_do_not_mix_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    choose_format("json")
    threads = [
        threading.Thread(target=lambda: [log_event("progress", "step", n=n) for n in range(1000)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert sorted(json.loads(line)["n"] for line in lines) == sorted([*range(1000)] * 3)


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_reader_that_has_gone_away_stops_nothing(format: str) -> None:
    program = (
        "import sys; from recsys_mtl.driver.events import choose_format, log_event\n"
        f"choose_format({format!r})\n"
        "sys.stdin.readline()\n"
        "for n in range(3): log_event('progress', 'w\u00fcnsche')\n"
        "sys.stderr.write('went on')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii:backslashreplace"},
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate("go\n", timeout=60)
    assert errors.startswith("went on")


@pytest.fixture
def library() -> Iterator[logging.Logger]:
    """A library that logs in its own way; what it says is told as events while a test lasts."""
    logger = logging.getLogger("chatty")
    own = logging.StreamHandler(sys.stderr)
    logger.addHandler(own)
    yield logger.getChild("core")
    logger.removeHandler(own)


def test_what_a_library_logs_and_prints_is_json_on_stderr_between_our_own_lines(
    library: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    choose_format("json")
    end = tell_output_of("chatty")
    log_event("run", "begun")
    library.warning("a token %s", "is used")
    print("\x1b[33m(raylet)\x1b[0m A worker", "died\n\nIt was killed")
    sys.stderr.write("half a ")
    log_event("run", "ended")
    sys.stderr.write("line\n")
    try:
        raise ValueError("why")
    except ValueError:
        library.exception("it failed")
    library.error("%d", "no number")
    end()
    print("as ever")
    out, err = capsys.readouterr()
    *ours, last = out.splitlines()
    assert [json.loads(line)["message"] for line in ours] == ["begun", "ended"]
    assert last == "as ever"
    told = [json.loads(line) for line in err.splitlines()]
    assert {event["event"] for event in told} == {"chatty"}
    messages = [(event["level"], event["message"]) for event in told]
    traceback = messages.pop(4)
    assert messages == [
        ("warning", "a token is used"),
        ("warning", "(raylet) A worker died"),
        ("warning", "It was killed"),
        ("warning", "half a line"),
        ("error", "%d"),
    ]
    assert traceback[0] == "error"
    assert traceback[1].startswith("it failed\nTraceback")
    assert traceback[1].endswith("ValueError: why")


def test_people_read_a_library_s_records_as_sentences_and_its_prints_as_they_are(
    library: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    choose_format("text")
    end = tell_output_of("chatty")
    library.warning("a token is used")
    print("printed")
    end()
    assert capsys.readouterr() == ("printed\n", "chatty: a token is used\n")
    assert len(logging.getLogger("chatty").handlers) == 1
    assert logging.getLogger("chatty").propagate
