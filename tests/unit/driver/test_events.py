"""What people and programs read of a run."""

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from recsys_mtl.driver.events import choose_format, log_error, log_event


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
