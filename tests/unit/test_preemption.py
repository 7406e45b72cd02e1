"""SIGTERM while workers train."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from recsys_mtl.preemption import StopOnSigterm


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()


def test_sigterm_asks_the_workers_until_they_have_stopped() -> None:
    calls: list[float] = []
    with StopOnSigterm(lambda: calls.append(time.monotonic()), grace_seconds=60) as stop:
        time.sleep(0.7)
        assert (stop.asked, calls) == (False, [])
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: len(calls) >= 2)
        assert stop.asked
    asked = len(calls)
    time.sleep(0.7)
    assert len(calls) == asked, "nobody is asked after the end"


def terminate_twice(grace_seconds: float, wait_seconds: float) -> None:
    with StopOnSigterm(lambda: None, grace_seconds=grace_seconds):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(wait_seconds)


def test_the_end_of_the_grace_period_interrupts_and_nothing_before() -> None:
    terminate_twice(grace_seconds=60, wait_seconds=1.5)
    with pytest.raises(KeyboardInterrupt):
        terminate_twice(grace_seconds=1, wait_seconds=10)


def test_afterwards_sigterm_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopOnSigterm(lambda: None, grace_seconds=1):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
