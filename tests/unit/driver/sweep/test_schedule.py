"""Processes of cells: their order, their ends, and that none is left behind."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from recsys_mtl.driver.sweep.admission import Demand, Room
from recsys_mtl.driver.sweep.outcomes import Failure
from recsys_mtl.driver.sweep.schedule import Job, Situation, run_jobs

HERE = Demand(0, {})
ENDS_WITH_ITS_INPUT = 'import os; os.read(0, 1); print(\'{"message": "left in order"}\')'
NEVER_ENDS = "import time\nwhile True: time.sleep(1)"
TELLS_ITS_STEPS = """
import json, os
print(json.dumps({"event": "run", "message": "run", "last_step": 40}), flush=True)
print(json.dumps({"event": "progress", "message": "...", "step": 10, "last_step": 40}), flush=True)
print("a line of a library", flush=True)
os.read(0, 1)
"""


def job(folder: Path, name: str, code: str, demand: Demand = HERE) -> Job:
    return Job(name, (sys.executable, "-c", code), folder / "cells" / f"{name}.log", demand)


class Watch:
    """What `run_jobs` tells."""

    def __init__(self) -> None:
        self.ended: dict[str, Failure | None] = {}
        self.seen: list[Situation] = []

    def end(self, job: Job, failure: Failure | None) -> None:
        self.ended[job.name] = failure

    def look(self, situation: Situation) -> None:
        self.seen.append(situation)


def run(jobs: Sequence[Job], watch: Watch, room: Room | None = None, grace: float = 20.0) -> None:
    run_jobs(
        jobs,
        room or Room(list, None),
        os.environ,
        grace_seconds=grace,
        ended=watch.end,
        look=watch.look,
    )


def test_jobs_run_in_order_one_at_a_time_and_their_output_is_kept(tmp_path: Path) -> None:
    watch, order = Watch(), tmp_path / "order"
    jobs = [
        job(tmp_path, name, f"print('of {name}'); open('{order}', 'a').write('{name}')")
        for name in "abc"
    ]
    run(jobs, watch)
    assert watch.ended == {"a": None, "b": None, "c": None}
    assert order.read_text() == "abc"
    assert (tmp_path / "cells" / "b.log").read_text() == "of b\n"
    assert max(len(situation.running) for situation in watch.seen) == 1
    last = watch.seen[-1]
    assert (last.finished, last.failed, last.waiting, last.running) == (3, 0, (), ())


def test_a_job_that_fails_or_is_killed_is_told_with_its_last_words_and_stops_no_other(
    tmp_path: Path,
) -> None:
    watch = Watch()
    jobs = [
        job(tmp_path, "refused", 'print(\'{"message": "no such log\\\\nmore"}\'); exit(2)'),
        job(tmp_path, "crashed", "raise SystemError('of its own')"),
        job(tmp_path, "killed", "import os; print('alive', flush=True); os.kill(os.getpid(), 9)"),
        job(tmp_path, "silent", "exit(3)"),
        job(tmp_path, "strange", "print('a\\x0fb'); exit(4)"),
        job(tmp_path, "sound", ""),
    ]
    run(jobs, watch, Room(list, 6))
    assert watch.ended["sound"] is None
    assert watch.ended["refused"] == Failure(2, "no such log")
    assert watch.ended["crashed"] == Failure(1, "SystemError: of its own")
    assert watch.ended["killed"] == Failure(
        -9, "killed by SIGKILL, as by the system when memory is short; before: alive"
    )
    assert watch.ended["silent"] == Failure(3, "nothing was printed")
    assert watch.ended["strange"] == Failure(4, "a b")
    assert (watch.seen[-1].finished, watch.seen[-1].failed) == (1, 5)


def test_a_running_job_says_its_step_and_a_new_start_does_not_repeat_the_old_one(
    tmp_path: Path,
) -> None:
    class StopAtSteps(Watch):
        def look(self, situation: Situation) -> None:
            if situation.running and situation.running[0].steps() == (10, 40):
                raise KeyboardInterrupt

    telling = job(tmp_path, "telling", TELLS_ITS_STEPS)
    with pytest.raises(KeyboardInterrupt):
        run([telling], StopAtSteps())

    class StopAtOnce(Watch):
        def look(self, situation: Situation) -> None:
            assert situation.running[0].steps() is None
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([job(tmp_path, "telling", ENDS_WITH_ITS_INPUT)], StopAtOnce())
    assert "left in order" in telling.log.read_text(), "an interruption lets it end by itself"


def test_an_interruption_leaves_no_process_behind_not_even_one_that_does_not_listen(
    tmp_path: Path,
) -> None:
    pids = tmp_path / "pids"
    code = f"import os; open('{pids}', 'a').write(str(os.getpid()) + ' ')\n{NEVER_ENDS}"

    class StopWhenBothRun(Watch):
        def look(self, situation: Situation) -> None:
            if pids.exists() and len(pids.read_text().split()) == 2:
                raise KeyboardInterrupt

    jobs = [job(tmp_path, name, code) for name in "ab"]
    with pytest.raises(KeyboardInterrupt):
        run(jobs, StopWhenBothRun(), Room(list, 2), grace=0.5)
    for pid in pids.read_text().split():
        assert not Path(f"/proc/{pid}").exists()


def test_a_job_for_which_a_cluster_has_lost_its_room_fails_and_those_behind_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_mtl.driver.sweep.schedule._IDLE_SECONDS", 0.0)
    nodes = [{"CPU": 1.0}, {"CPU": 1.0}]
    done = tmp_path / "done"

    class LoseANode(Watch):
        def end(self, job: Job, failure: Failure | None) -> None:
            super().end(job, failure)
            del nodes[1:]

    jobs = [
        job(tmp_path, name, f"open('{done}', 'a').write('{name}')", Demand(workers, {"CPU": 1.0}))
        for name, workers in (("a", 2), ("b", 2), ("c", 1))
    ]
    watch = LoseANode()
    run(jobs, watch, Room(lambda: nodes, None))
    assert done.read_text() == "ac"
    lost = watch.ended["b"]
    assert lost is not None
    assert lost.last_line.startswith("b has 2 worker(s) of 1 CPU, and the cluster, of 1 CPU on 1")
    assert jobs[1].log.read_text() == f"{lost.last_line}\n"
    assert (watch.seen[-1].finished, watch.seen[-1].failed) == (2, 1)


def test_the_first_that_waits_is_not_overtaken_by_one_with_room(tmp_path: Path) -> None:
    room = Room(lambda: [{"CPU": 4.0}], None)
    one, all_of_it = Demand(1, {"CPU": 1.0}), Demand(4, {"CPU": 1.0})
    watch, order = Watch(), tmp_path / "order"
    jobs = [
        job(tmp_path, name, f"open('{order}', 'a').write('{name}')", demand)
        for name, demand in (("a", one), ("b", all_of_it), ("c", one))
    ]
    run(jobs, watch, room)
    assert order.read_text() == "abc"
    assert all(len(situation.running) <= 1 for situation in watch.seen)
