"""Ctrl-C from within, to the main thread and to another one."""

import signal
import threading
import time

import pytest

from recsys_mtl.driver.interruption import (
    ctrl_c_waits,
    ended_by_ctrl_c,
    in_main_thread,
    interrupter,
)


def be_interrupted(seconds: float) -> None:
    interrupt = interrupter()
    threading.Timer(0.2, interrupt).start()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.05)


def test_the_main_thread_is_interrupted() -> None:
    assert in_main_thread()
    with pytest.raises(KeyboardInterrupt):
        be_interrupted(seconds=10)


def test_another_thread_is_interrupted_and_the_main_one_is_not() -> None:
    seen: list[object] = []

    def run() -> None:
        seen.append(in_main_thread())
        try:
            be_interrupted(seconds=10)
        except KeyboardInterrupt:
            seen.append("interrupted")

    to_main: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: to_main.append(number))
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(timeout=20)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (seen, to_main) == ([False, "interrupted"], [])


def test_what_a_library_makes_of_ctrl_c_is_still_ctrl_c() -> None:
    def library() -> None:
        try:
            be_interrupted(seconds=10)
        except KeyboardInterrupt:
            raise RuntimeError("unexpected position") from None

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), ended_by_ctrl_c():
        library()
    assert signal.getsignal(signal.SIGINT) == before


def test_an_error_that_nobody_interrupted_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="disk"), ended_by_ctrl_c():
        raise RuntimeError("the disk is full")


def test_another_thread_may_wait_for_ctrl_c_in_vain() -> None:
    ended: list[str] = []

    def run() -> None:
        with ended_by_ctrl_c():
            ended.append("as usual")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=10)
    assert ended == ["as usual"]


def interrupt_itself(times: int, seen: list[str]) -> None:
    with ctrl_c_waits():
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        seen.append("went on")


def test_ctrl_c_waits_for_what_must_not_be_cut_short() -> None:
    seen: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupt_itself(1, seen)
    assert seen == ["went on"]
    assert signal.getsignal(signal.SIGINT) == before


def test_a_second_ctrl_c_does_not_wait() -> None:
    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupt_itself(2, seen)
    assert not seen
