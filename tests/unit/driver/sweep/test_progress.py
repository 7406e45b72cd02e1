"""What a sweep tells of its cells while they run."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys_mtl.driver.events import choose_format
from recsys_mtl.driver.sweep.admission import Demand, Room
from recsys_mtl.driver.sweep.progress import showing_sweep
from recsys_mtl.driver.sweep.schedule import Job, Situation, run_jobs

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
        for name, code in (("a", f"{HALF_WAY}\n{waits}"), ("b", "print('bad'); exit(7)"))
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
    assert cells == [("a", "started"), ("a", "finished"), ("b", "started"), ("b", "failed")]
    failed = next(event for event in events if event.get("state") == "failed")
    assert failed["message"] == f"b: failed with status 7: bad; its log: {tmp_path}/b.log"
    told = [event for event in events if event["event"] == "sweep_progress"]
    half = next(t for t in told if t["running"].get("a"))
    assert half["running"] == {"a": {"step": 20, "last_step": 40}}
    assert half["message"].startswith("cells: 0 finished, 1 running, 1 waiting, about ")
    assert half["message"].endswith(" left")
    assert told[-1]["message"] == "cells: 1 finished, 0 running, 1 failed"
