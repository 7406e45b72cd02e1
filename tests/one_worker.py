"""A process group of this process alone, for what asks other workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from recsys_mtl.distributed.context import WorkerContext


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerContext]:
    """A run of one worker, in this process."""
    store = Path(tmp_path_factory.mktemp("store")) / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield WorkerContext(0, 1, 1, torch.device("cpu"))
    dist.destroy_process_group()
