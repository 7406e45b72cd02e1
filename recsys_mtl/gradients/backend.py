"""Which implementation of GradOPS runs: plain torch, or the Triton kernels."""

import importlib.util
import logging
from functools import cache
from typing import Literal, get_args

import torch

Backend = Literal["torch", "triton"]
BackendChoice = Literal["auto", "torch", "triton"]

MOST_TRITON_TASKS = 16
"""One program holds [T, T, T] float64 in its registers."""

_log = logging.getLogger(__name__)


def resolve_backend(name: BackendChoice, device: torch.device | str, *, num_tasks: int) -> Backend:
    """The backend that `name` stands for; one asked for by name is never replaced by the other.

    "auto" is "triton" on a CUDA device with at most 16 tasks and "torch" elsewhere, and logs once
    what it chose.

    Raises:
        ValueError: an unknown name, or "triton", by name or by "auto", where it cannot run.
    """
    if name not in get_args(BackendChoice):
        raise ValueError(f"backend is {name!r}; it must be 'auto', 'torch' or 'triton'.")
    device_type = torch.device(device).type
    wants_triton = device_type == "cuda" and num_tasks <= MOST_TRITON_TASKS
    backend: Backend = (
        "triton" if name == "triton" or (name == "auto" and wants_triton) else "torch"
    )
    if backend == "triton":
        _check_triton_runs(device_type, num_tasks)
    if name == "auto":
        _log_choice(backend, device_type, num_tasks)
    return backend


def check_num_tasks(num_tasks: int) -> None:
    """Raise ValueError where the kernels do not take this many tasks."""
    if num_tasks > MOST_TRITON_TASKS:
        raise ValueError(
            f"backend 'triton' takes at most {MOST_TRITON_TASKS} tasks and there are {num_tasks}; "
            "choose 'torch'."
        )


def _check_triton_runs(device_type: str, num_tasks: int) -> None:
    check_num_tasks(num_tasks)
    if importlib.util.find_spec("triton") is None:
        raise ValueError(
            f"backend 'triton' on a {device_type} device needs the package triton, which is not "
            "installed; install it or choose 'torch'."
        )
    from triton import knobs  # type: ignore[import-untyped]  # optional, and slow to import

    if device_type != "cuda" and not (device_type == "cpu" and knobs.runtime.interpret):
        raise ValueError(
            f"backend 'triton' cannot run on a {device_type} device; choose 'torch' or 'auto', or "
            "set TRITON_INTERPRET=1 to try the kernels on a CPU, slowly."
        )


@cache
def _log_choice(backend: Backend, device_type: str, num_tasks: int) -> None:
    _log.info("GradOPS backend: %s, for %d tasks on a %s device", backend, num_tasks, device_type)
