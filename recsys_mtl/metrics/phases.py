"""The phases that a step spends its time in."""

import time

PHASES = (
    "data_wait",
    "forward",
    "backward",
    "communication",
    "deconflict",
    "optimizer",
)
PHASE_BUCKETS_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Inclusive upper bounds of the buckets that a phase's steps are counted in."""


class PhaseClock:
    """Counts one step's seconds by phase, in host time: on CUDA, where the host waited."""

    def __init__(self, data_wait_seconds: float = 0.0) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.seconds["data_wait"] = data_wait_seconds
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Counts the time since the last lap, or since the start, to `phase`."""
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now
