"""This process as the only worker of a run, without addresses, ports or a launcher."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torchrec.distributed.comm_ops import get_gradient_division, set_gradient_division

from recsys_mtl.config import UserError
from recsys_mtl.distributed.context import WorkerContext

# TorchRec looks for these two, and warns by the root logger where they are missing.
_ENVIRONMENT = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}

# It warns of a function that TorchRec calls for each table, whatever the run.
_NOISE = logging.getLogger("torch.fx._symbolic_trace")


@contextmanager
def alone(device: str, *, num_threads: int, timeout_seconds: float) -> Iterator[WorkerContext]:
    """A process group of this process; every global is afterwards as it was.

    Args:
        device: `cpu` or `cuda`, the current one.
        num_threads: of torch.
        timeout_seconds: of a collective operation.

    Raises:
        UserError: this process belongs to a process group already.
    """
    refuse_process_group()
    place = torch.device("cpu")
    if device == "cuda":
        place = torch.device("cuda", torch.cuda.current_device())
    with ExitStack() as restored:
        restored.enter_context(_environment(_ENVIRONMENT))
        restored.enter_context(torch.random.fork_rng([] if place.index is None else [place.index]))
        restored.callback(setattr, sys, "excepthook", sys.excepthook)
        restored.callback(_NOISE.setLevel, _NOISE.level)
        restored.callback(torch.set_num_threads, torch.get_num_threads())
        restored.callback(set_gradient_division, get_gradient_division())
        _NOISE.setLevel(logging.ERROR)
        torch.set_num_threads(num_threads)
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            store=dist.HashStore(),  # type: ignore[attr-defined]
            rank=0,
            world_size=1,
            timeout=timedelta(seconds=timeout_seconds),
        )
        restored.callback(dist.destroy_process_group)
        yield WorkerContext(rank=0, world_size=1, local_world_size=1, device=place)


def refuse_process_group() -> None:
    """Raise UserError where this process belongs to a process group."""
    if dist.is_initialized():
        raise UserError(
            "cluster.num_workers is 0, but this process belongs to a torch.distributed process "
            "group already; call torch.distributed.destroy_process_group() first, or choose "
            "cluster.num_workers: 1 to train in a process of Ray's"
        )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
