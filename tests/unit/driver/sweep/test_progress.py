"""What a sweep tells of its cells while they run."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from recsys_mtl.driver.events import choose_format
from recsys_mtl.driver.sweep.admission import Demand, Room
from recsys_mtl.driver.sweep.progress import SweepProgress, showing_sweep
from recsys_mtl.driver.sweep.schedule import Job, Running, Situation, run_jobs

HALF_WAY = 'print(\'{"event": "progress", "step": 20, "last_step": 40}\', flush=True); '


@pytest.fixture(autouse=True)
def _json() -> Iterator[None]:
    choose_format("json")
    yield
    choose_format("auto")


def test_each_cell_s_start_and_end_is_told_once_and_now_and_then_how_all_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_mtl.driver.sweep.progress._SECONDS_BETWEEN_LINES", 0.0)
    go_on = tmp_path / "go_on"
    waits = f"import os, time\nwhile not os.path.exists('{go_on}'): time.sleep(0.05)\n"
    jobs = [
        Job(name, (sys.executable, "-c", code), tmp_path / f"{name}.log", Demand(0, {}))
        for name, code in (
            ("a", f"{HALF_WAY}\n{waits}"),
            ("b", "print('b is bad'); exit(7)"),
            ("c", "print('c is bad'); exit(7)"),
        )
    ]
    half_way = list[Situation]()
    with showing_sweep() as progress:

        def look(situation: Situation) -> None:
            progress.look(situation)
            if situation.running and situation.running[0].steps() == (20, 40):
                half_way.append(situation)
                if len(half_way) == 2:  # so that the first of them was told
                    go_on.touch()

        run_jobs(jobs, Room(list, 1), os.environ, grace_seconds=9, ended=progress.ended, look=look)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    cells = [(e["cell"], e["state"]) for e in events if e["event"] == "cell"]
    assert cells == [
        ("a", "started"),
        ("a", "finished"),
        ("b", "started"),
        ("b", "failed"),
        ("c", "started"),
        ("c", "failed"),
    ]
    first, second = (event["message"] for event in events if event.get("state") == "failed")
    assert first == f"b: failed with status 7: b is bad; its log: {tmp_path}/b.log"
    assert second == f"c: failed with status 7: as b did; its log: {tmp_path}/c.log"
    told = [event for event in events if event["event"] == "sweep_progress"]
    half = next(t for t in told if t["running"].get("a"))
    assert half["running"] == {"a": {"step": 20, "last_step": 40}}
    assert half["message"].startswith("cells: 0 finished, 1 running, 2 waiting, about ")
    assert half["message"].endswith(" left")
    assert told[-1]["message"] == "cells: 1 finished, 0 running, 2 failed"


@pytest.mark.parametrize(
    ("finished", "failed", "steps", "told"),
    [
        (0, 0, [None, None], None),  # they are starting
        (0, 0, [(1, 100), (5, 100)], None),  # hardly begun
        (0, 30, [None, None], None),  # what failed took no time
        (0, 0, [(20, 100), (80, 100)], "about 9 s left"),  # of 10 cells, 1 is done
        (0, 5, [(20, 100), (80, 100)], "about 9 s left"),
        (2, 0, [None, None], "about 4 s left"),
    ],
)
def test_the_time_left_is_told_once_it_can_be_known(
    finished: int, failed: int, steps: list[tuple[int, int] | None], told: str | None
) -> None:
    progress = SweepProgress(None)
    progress._begun -= 1.0
    running = [cast(Running, None)] * len(steps)
    waiting = [cast(Job, None)] * (10 - finished - len(steps))
    situation = Situation(waiting, running, finished, failed)
    said = progress._summary(situation, {str(i): at for i, at in enumerate(steps)})
    assert said.endswith(" left") is (told is not None)
    assert told is None or said.endswith(told)
