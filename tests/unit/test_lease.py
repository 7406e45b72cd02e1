"""Two drivers that want to train the same run."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest

from recsys_mtl import lease
from recsys_mtl.config import UserError
from recsys_mtl.lease import Lease


@pytest.fixture(params=["local", "memory"])
def run_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A run's folder, on a file system that can move files and on one of objects."""
    return f"{tmp_path}/runs/demo" if request.param == "local" else f"memory://{uuid.uuid4()}/demo"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_WAIT_SECONDS", 0.3)
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(lease, "_RENEWED_SECONDS", 0.05)


def said_by(run_url: str) -> dict[str, Any] | None:
    storage, _, name = run_url.rpartition("/")
    filesystem, path = fsspec.core.url_to_fs(f"{storage}/.{name}.lease")
    return json.loads(filesystem.cat_file(path)) if filesystem.exists(path) else None


def say(run_url: str, **changes: Any) -> None:
    """As another driver would; by default one that lives elsewhere."""
    storage, _, name = run_url.rpartition("/")
    filesystem, path = fsspec.core.url_to_fs(f"{storage}/.{name}.lease")
    other = {
        "key": "other",
        "host": "gpu-7",
        "pid": 42,
        "processes": "gpu-7 its-boot its-pids",
        "renewed_at": time.time(),
    }
    filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
    filesystem.pipe_file(path, json.dumps(other | changes).encode())


def test_who_holds_it_is_named_and_leaves_nothing_behind(run_url: str) -> None:
    with Lease(run_url).held():
        holder = said_by(run_url)
        assert holder is not None
        assert holder["pid"] == os.getpid()
        first = holder["renewed_at"]
        time.sleep(0.3)
        assert (said_by(run_url) or {})["renewed_at"] > first, "it is renewed"
    assert said_by(run_url) is None


def test_a_second_driver_is_refused_while_the_first_one_trains(
    run_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lease(run_url).held():
        refused = pytest.raises(UserError, match=f"being trained by process {os.getpid()} on")
        with refused, Lease(run_url).held():
            pytest.fail("both hold it")
        assert (said_by(run_url) or {})["pid"] == os.getpid(), "the first one still holds it"
    assert capsys.readouterr().out.count("waiting up to") == 1


def test_a_second_driver_goes_on_when_the_first_one_has_ended(
    run_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_WAIT_SECONDS", 60.0)
    say(run_url)
    sleep, looks = time.sleep, []

    def sleep_and_end(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            say(run_url, renewed_at=0.0)
        sleep(seconds)

    monkeypatch.setattr(lease.time, "sleep", sleep_and_end)
    with Lease(run_url).held():
        assert (said_by(run_url) or {})["pid"] == os.getpid()
    assert len(looks) == 3


@pytest.fixture
def dead_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_driver_that_was_killed_on_this_machine_is_not_waited_for(
    run_url: str, dead_pid: int
) -> None:
    say(run_url, pid=dead_pid, processes=lease._processes())
    with Lease(run_url).held():
        assert (said_by(run_url) or {})["pid"] == os.getpid()


def test_a_process_of_that_number_on_another_machine_says_nothing(
    run_url: str, dead_pid: int
) -> None:
    say(run_url, pid=dead_pid)
    with pytest.raises(UserError, match=f"process {dead_pid} on gpu-7"), Lease(run_url).held():
        pytest.fail("the other one may be alive")


def test_a_file_of_another_version_is_written_anew(run_url: str) -> None:
    say(run_url, version=7)
    with Lease(run_url).held():
        assert (said_by(run_url) or {})["pid"] == os.getpid()


def test_who_was_thought_dead_leaves_the_run_to_its_successor(run_url: str) -> None:
    def train_while_another_takes_over() -> None:
        with Lease(run_url).held():
            say(run_url)
            time.sleep(10)  # a signal ends it
            pytest.fail("it trains on")

    with pytest.raises(UserError, match="is now trained by process 42 on gpu-7"):
        train_while_another_takes_over()
    assert (said_by(run_url) or {})["key"] == "other", "and does not take the lease along"


def test_ctrl_c_stays_ctrl_c(run_url: str) -> None:
    with pytest.raises(KeyboardInterrupt), Lease(run_url).held():
        raise KeyboardInterrupt
    assert said_by(run_url) is None
