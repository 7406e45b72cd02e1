"""SIGTERM while workers train, before they do, and when they do not stop."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from recsys_mtl.driver.preemption import PreemptionError, Sigterm


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_asks_the_workers_until_they_have_stopped() -> None:
    calls: list[float] = []
    with Sigterm(60) as sigterm:
        with sigterm.stopping(lambda: calls.append(time.monotonic()), lambda: True):
            time.sleep(1.2)
            assert (sigterm.asked, calls, sigterm.seconds_left()) == (False, [], float("inf"))
            terminate()
            terminate()  # changes nothing
            wait_for(lambda: len(calls) >= 2)
            assert sigterm.asked
            assert 50 < sigterm.seconds_left() < 60
        asked = len(calls)
        time.sleep(1.2)
        assert len(calls) == asked, "nobody is asked after the end"


@pytest.mark.parametrize(("grace_seconds", "begun"), [(1, True), (60, False)])
def test_what_does_not_stop_or_has_not_begun_is_interrupted_again_and_again(
    grace_seconds: float, begun: bool
) -> None:
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        with (
            Sigterm(grace_seconds) as sigterm,
            sigterm.stopping(lambda: None, lambda: begun),
        ):
            terminate()
            wait_for(lambda: len(interrupts) >= 3)
    finally:
        signal.signal(signal.SIGINT, before)


def test_workers_are_asked_although_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise BrokenPipeError

    calls: list[None] = []
    monkeypatch.setattr("recsys_mtl.driver.preemption.log_event", broken)
    with Sigterm(60) as sigterm, sigterm.stopping(lambda: calls.append(None), lambda: True):
        terminate()
        wait_for(lambda: len(calls) >= 2)


def test_what_has_not_trained_leaves_at_its_next_look() -> None:
    with Sigterm(60) as sigterm:
        sigterm.leave_if_asked("demo")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does when it starts
        sigterm.listen()
        terminate()
        with pytest.raises(PreemptionError, match="run 'demo' was ended by SIGTERM before"):
            sigterm.leave_if_asked("demo")


def test_what_interrupts_a_run_is_not_blocked() -> None:
    def be_interrupted() -> None:
        with Sigterm(60):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with pytest.raises(KeyboardInterrupt):
            be_interrupted()
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "as it was"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_afterwards_sigterm_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Sigterm(1):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_another_thread_signals_stay_with_whoever_has_them() -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            with Sigterm(60) as sigterm:
                assert signal.getsignal(signal.SIGTERM) == before
                sigterm.listen()
                sigterm.leave_if_asked("demo")
        except BaseException as error:
            raised.append(error)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=10)
    assert raised == []
    assert signal.getsignal(signal.SIGTERM) == before
