"""A process that is a run's only worker is afterwards what it was before."""

import logging
import os
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torchrec.distributed.comm_ops import get_gradient_division, set_gradient_division

from recsys_mtl.config import UserError
from recsys_mtl.distributed.alone import alone
from recsys_mtl.distributed.collectives import all_reduce_sum, made_by_first


def settings() -> dict[str, Any]:
    """What a process shares with everything that runs in it."""
    return {
        "process group": dist.is_initialized(),
        "torch threads": torch.get_num_threads(),
        "torch draws": torch.get_rng_state().tolist(),
        "python draws": random.getstate(),
        "numpy draws": str(np.random.get_state()),
        "environment": dict(os.environ),
        "gradient division": get_gradient_division(),
        "exception hook": sys.excepthook,
        "log handlers": list(logging.getLogger().handlers),
        "log level of torch.fx": logging.getLogger("torch.fx._symbolic_trace").level,
    }


def change_them() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(1)
    set_gradient_division(False)
    os.environ["LOCAL_RANK"] = "5"


@pytest.fixture(params=[None, "7"])
def _local_rank(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Not in the environment, or there for another use."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if request.param is not None:
        monkeypatch.setenv("LOCAL_RANK", request.param)
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("_local_rank")
def test_afterwards_every_setting_of_the_process_is_as_before() -> None:
    before = settings()
    with alone("cpu", num_threads=1, timeout_seconds=60):
        change_them()
    assert settings() == before


@pytest.mark.usefixtures("_local_rank")
def test_an_error_leaves_no_setting_behind_either() -> None:
    def fail() -> None:
        with alone("cpu", num_threads=1, timeout_seconds=60):
            change_them()
            raise KeyboardInterrupt

    before = settings()
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert settings() == before


def test_it_is_one_worker_of_one_with_the_threads_it_was_given() -> None:
    for num_threads in (1, 2):  # and again in the same process
        with alone("cpu", num_threads=num_threads, timeout_seconds=60) as context:
            assert (context.rank, context.world_size, context.local_world_size) == (0, 1, 1)
            assert context.device == torch.device("cpu")
            assert torch.get_num_threads() == num_threads
            assert all_reduce_sum(torch.tensor([2.0])).tolist() == [2.0]
            assert made_by_first(0, lambda: "plan") == "plan"


def test_a_process_of_another_group_is_refused_and_keeps_its_group() -> None:
    with alone("cpu", num_threads=1, timeout_seconds=60):
        refused = pytest.raises(UserError, match=r"process group already; .*num_workers: 1")
        with refused, alone("cpu", num_threads=1, timeout_seconds=60):
            pytest.fail("it belongs to two")
        assert dist.is_initialized()
