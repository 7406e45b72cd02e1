"""Train one model for two steps, save it, and begin another one with its values; on gloo workers.

The folder has old.yaml and new.yaml. Left there: old.pt and new.pt, every tensor by name at the
moment of saving and before the first step, and report.json.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed._shard.sharded_tensor import ShardedTensor

from recsys_mtl.config import RunConfig
from recsys_mtl.config.file import load_config
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.driver.storage import Folder
from recsys_mtl.driver.stored_checkpoint import StoredCheckpoint
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.train import train_step
from recsys_mtl.worker.build import build
from recsys_mtl.worker.counts import count_globally
from recsys_mtl.worker.job import FirstValues
from recsys_mtl.worker.named_tensors import save_tensors
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.warm_start import take_first_values


def run_worker(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    context = WorkerContext(rank, world_size, world_size, torch.device("cpu"))
    old, new = (load_config(folder / f"{name}.yaml") for name in ("old", "new"))
    worker = trained(old, context)
    save_tensors(worker.state_dict(), folder / "checkpoint")
    keep(worker, folder / "old.pt")
    worker = build(new, context, read_manifest(new.data.train, new.data))
    source = StoredCheckpoint(Folder(str(folder)), "checkpoint")
    assert new.run.warm_start is not None
    report = take_first_values(worker, FirstValues(source, "old", 2, old), new.run.warm_start)
    keep(worker, folder / "new.pt")
    if rank == 0:
        (folder / "report.json").write_text(json.dumps(report.to_json()))
    steps(worker, new, context)
    assert worker.model.shared.vector.isfinite().all()
    dist.destroy_process_group()


def trained(config: RunConfig, context: WorkerContext) -> Worker:
    worker = build(config, context, read_manifest(config.data.train, config.data))
    steps(worker, config, context)
    return worker


def steps(worker: Worker, config: RunConfig, context: WorkerContext) -> None:
    manifest = read_manifest(config.data.train, config.data)
    stream = BatchStream(
        manifest,
        worker.plan,
        config.data,
        rank=context.rank,
        world_size=context.world_size,
        first_step=0,
        last_step=2,
    )
    with stream as batches:
        for batch in batches:
            train_step(worker, batch, count_globally(batch, stop_asked=False), PhaseClock())


def keep(worker: Worker, path: Path) -> None:
    """Every tensor, put together from its shards, by rank 0."""
    mine: dict[str, Any] = {}
    for name, tensor in worker.state_dict().items():
        if isinstance(tensor, ShardedTensor):
            shards = [(s.metadata.shard_offsets, s.tensor.detach()) for s in tensor.local_shards()]
            mine[name] = (tuple(tensor.size()), shards)
        else:
            mine[name] = (tuple(tensor.size()), [([0] * tensor.ndim, tensor.detach())])
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, mine)
    whole: dict[str, torch.Tensor] = {}
    for name, (size, shards) in ((n, part) for parts in gathered for n, part in parts.items()):
        tensor = whole.setdefault(name, torch.full(size, torch.nan))
        for offsets, values in shards:
            place = tuple(slice(o, o + n) for o, n in zip(offsets, values.shape, strict=True))
            tensor[place] = values
    if dist.get_rank() == 0:
        torch.save(whole, path)
