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


def terminate_and_wait(signals: int, grace_seconds: float) -> None:
    with StopOnSigterm(lambda: None, grace_seconds=grace_seconds):
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)


@pytest.mark.parametrize(("signals", "grace_seconds"), [(1, 1.0), (2, 60.0)])
def test_the_grace_period_or_a_second_sigterm_interrupts(
    signals: int, grace_seconds: float
) -> None:
    with pytest.raises(KeyboardInterrupt):
        terminate_and_wait(signals, grace_seconds)


def test_afterwards_sigterm_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopOnSigterm(lambda: None, grace_seconds=1):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
