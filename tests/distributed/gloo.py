"""gloo workers without Ray, forked from one process that has imported what they need.

Imports take longer than the few steps of most tests; one server per test process makes them once.
"""

import time
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import torch.multiprocessing as mp

_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["recsys_mtl.train", "recsys_mtl.driver.predict", "recsys_mtl.driver.trained_run"]
)


def run_on_workers(
    work: Callable[..., None], workers: int, *arguments: Any, timeout_seconds: float = 400
) -> None:
    """Have each of so many processes call `work(rank, workers, *arguments)`, and wait for them.

    Raises:
        Exception: a worker failed, or they took too long; none is left behind.
    """
    started = mp.start_processes(
        work, args=(workers, *arguments), nprocs=workers, join=False, start_method="forkserver"
    )
    until = time.monotonic() + timeout_seconds
    while not started.join(timeout=1):
        if time.monotonic() > until:
            for process in started.processes:
                process.kill()
            raise TimeoutError(f"{workers} workers did not end within {timeout_seconds} s")
