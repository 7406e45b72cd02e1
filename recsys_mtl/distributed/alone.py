"""Makes this process the only worker of a run, without addresses or a launcher."""

import logging
import os
import sys
import warnings
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


@contextmanager
def alone(device: str, *, num_threads: int, timeout_seconds: float) -> Iterator[WorkerContext]:
    """Give this process a process group of its own; afterwards every global is as it was.

    Args:
        device: `cpu`, or `cuda` for the first GPU.
        num_threads: how many threads torch may use.
        timeout_seconds: how long a collective operation may wait.

    Raises:
        UserError: this process belongs to a process group already.
    """
    refuse_process_group()
    # The planner places the shards of a machine's only worker on its first GPU.
    place = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
    with ExitStack() as restored:
        restored.enter_context(_environment(_ENVIRONMENT))
        restored.enter_context(_without_noise())
        if device == "cuda":
            restored.enter_context(torch.cuda.device(place))
        restored.enter_context(torch.random.fork_rng([0] if device == "cuda" else []))
        restored.callback(setattr, sys, "excepthook", sys.excepthook)
        restored.callback(torch.set_num_threads, torch.get_num_threads())
        restored.callback(set_gradient_division, get_gradient_division())
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


@contextmanager
def _without_noise() -> Iterator[None]:
    """Silences what torch warns of in every run, since TorchRec calls it so: nobody can mend it."""
    logger = logging.getLogger("torch.fx._symbolic_trace")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please use DTensor instead", FutureWarning)
        try:
            yield
        finally:
            logger.setLevel(level)
