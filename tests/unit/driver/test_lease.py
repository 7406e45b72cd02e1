"""Two drivers that want to train the same run."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from recsys_mtl.config import UserError
from recsys_mtl.driver import lease
from recsys_mtl.driver.lease import Lease, LeaseError


@pytest.fixture(params=["local", "memory"])
def run_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A run's folder, on a file system that can move files and on one of objects."""
    return f"{tmp_path}/runs/demo" if request.param == "local" else f"memory://{uuid.uuid4()}/demo"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_WAIT_SECONDS", 0.3)
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(lease, "_RENEWED_SECONDS", 0.05)
    monkeypatch.setattr(lease, "_SETTLE_SECONDS", 0.02)


def held(run_url: str) -> AbstractContextManager[None]:
    return Lease(run_url).held(lambda: None)


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
    with held(run_url):
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
    with held(run_url):
        refused = pytest.raises(LeaseError, match=f"being trained by process {os.getpid()} on")
        with refused, held(run_url):
            pytest.fail("both hold it")
        assert (said_by(run_url) or {})["pid"] == os.getpid(), "the first one still holds it"
    assert capsys.readouterr().out.count("waiting up to") == 1


def test_a_second_driver_goes_on_when_the_first_one_has_ended(
    run_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_WAIT_SECONDS", 60.0)
    say(run_url)
    pauses: list[None] = []

    def pause() -> None:
        pauses.append(None)
        if len(pauses) == 3:
            say(run_url, renewed_at=0.0)

    with Lease(run_url).held(pause):
        assert (said_by(run_url) or {})["pid"] == os.getpid()
    assert len(pauses) == 3


@pytest.fixture
def dead_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_driver_that_was_killed_on_this_machine_is_not_waited_for(
    run_url: str, dead_pid: int
) -> None:
    say(run_url, pid=dead_pid, processes=lease._processes())
    with held(run_url):
        assert (said_by(run_url) or {})["pid"] == os.getpid()


def test_a_process_of_that_number_on_another_machine_says_nothing(
    run_url: str, dead_pid: int
) -> None:
    say(run_url, pid=dead_pid)
    with pytest.raises(LeaseError, match=f"process {dead_pid} on gpu-7"), held(run_url):
        pytest.fail("the other one may be alive")


def test_a_later_version_s_file_is_understood(run_url: str) -> None:
    say(run_url, version=7)
    with pytest.raises(LeaseError, match="process 42 on gpu-7"), held(run_url):
        pytest.fail("both hold it")


def test_what_nobody_understands_is_waited_for_until_nobody_renews_it(
    run_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(run_url, renewed_at=None)
    with pytest.raises(LeaseError, match="is being trained by another driver"), held(run_url):
        pytest.fail("both hold it")
    monkeypatch.setattr(lease, "_VALID_SECONDS", 0.1)
    with held(run_url):
        assert (said_by(run_url) or {})["pid"] == os.getpid()


def test_of_two_that_find_it_free_at_once_one_holds_it(tmp_path: Path) -> None:
    program = """
import sys, time
from recsys_mtl.driver import lease
lease._WAIT_SECONDS = 1.0
while time.time() < float(sys.argv[2]):
    pass
try:
    with lease.Lease(sys.argv[1]).held(lambda: None):
        print("held", flush=True)
        time.sleep(3)
except lease.LeaseError:
    print("refused")
"""
    start = str(time.time() + 2)
    command = [sys.executable, "-c", program, f"{tmp_path}/runs/demo", start]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [driver.communicate(timeout=60)[0].split()[-1] for driver in drivers]
    assert sorted(printed) == ["held", "refused", "refused"]


def test_who_was_thought_dead_leaves_the_run_to_its_successor(run_url: str) -> None:
    def train_while_another_takes_over() -> None:
        with held(run_url):
            say(run_url)
            time.sleep(10)  # a signal ends it
            pytest.fail("it trains on")

    with pytest.raises(LeaseError, match="no longer this driver's but process 42 on gpu-7's"):
        train_while_another_takes_over()
    assert (said_by(run_url) or {})["key"] == "other", "and does not take the lease along"


def test_a_thread_that_trains_leaves_its_run_and_the_main_thread_goes_on(run_url: str) -> None:
    ended: list[BaseException] = []

    def train_while_another_takes_over() -> None:
        try:
            with held(run_url):
                say(run_url)
                until = time.monotonic() + 10
                while time.monotonic() < until:
                    time.sleep(0.01)
        except LeaseError as error:
            ended.append(error)

    thread = threading.Thread(target=train_while_another_takes_over)
    thread.start()
    thread.join(timeout=20)
    (error,) = ended
    assert "no longer this driver's but process 42 on gpu-7's" in str(error)


def test_who_wakes_after_its_lease_has_ended_does_not_take_it_up_again(
    run_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_after_a_pause() -> None:
        waking = Lease(run_url)
        with waking.held(lambda: None):
            monkeypatch.setattr(waking, "_renew", lambda: None)
            waking._folder.remove(waking._file)  # by the successor, which has ended
            waking._written_at -= 2 * lease._VALID_SECONDS
            monkeypatch.undo()
            time.sleep(10)
            pytest.fail("it trains on")

    with pytest.raises(LeaseError, match="but another driver's"):
        train_after_a_pause()
    assert said_by(run_url) is None


def test_one_interrupt_is_enough_for_an_orderly_end(run_url: str) -> None:
    ended = []

    def train_while_another_takes_over() -> None:
        with held(run_url):
            try:
                say(run_url)
                time.sleep(10)
            finally:
                time.sleep(0.5)  # many times as long as between two looks
                ended.append(True)

    with pytest.raises(LeaseError):
        train_while_another_takes_over()
    assert ended == [True]


def test_waiting_can_be_ended(run_url: str) -> None:
    def leave() -> None:
        raise InterruptedError

    say(run_url)
    with pytest.raises(InterruptedError), Lease(run_url).held(leave):
        pytest.fail("both hold it")
    assert (said_by(run_url) or {})["key"] == "other"


def test_storage_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"run\.storage_path: .*/file/runs cannot be used"):  # noqa: SIM117
        with held(f"{tmp_path}/file/runs/demo"):
            pytest.fail("where?")


def test_ctrl_c_stays_ctrl_c(run_url: str) -> None:
    with pytest.raises(KeyboardInterrupt), held(run_url):
        raise KeyboardInterrupt
    assert said_by(run_url) is None
