"""Train a run's first steps on gloo workers without Ray, and save what came of it.

    python -m tests.distributed.train_steps RUN.yaml WORKERS STEPS OUT.pt VARIANTS

VARIANTS is a JSON object, name to overrides (`a.b=value`) of RUN.yaml. OUT.pt holds, for each
variant, losses and weights of each step [steps, T], and at the end the bottom, the heads and every
table whole.
"""

import argparse
import json
import os
import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from recsys_mtl.config import RunConfig
from recsys_mtl.config.file import load_config
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.train import train_step
from recsys_mtl.worker.build import build
from recsys_mtl.worker.counts import count_globally
from recsys_mtl.worker.state import Worker
from tests.distributed.gloo import run_on_workers


def run_worker(
    rank: int, world_size: int, port: int, configs: dict[str, RunConfig], steps: int, out: str
) -> None:
    """One worker: all variants, one after the other, and on rank 0 the file."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world_size),
    }
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    context = WorkerContext(rank, world_size, world_size, torch.device("cpu"))
    results = {name: train(config, context, steps) for name, config in configs.items()}
    if rank == 0:
        torch.save(results, out)
    dist.destroy_process_group()


def train(config: RunConfig, context: WorkerContext, steps: int) -> dict[str, Any]:
    """What one variant comes to."""
    manifest = read_manifest(config.data.train, config.data)
    worker = build(config, context, manifest)
    unknown = torch.full((len(config.task_names), len(config.task_names)), torch.nan)
    losses, weights, coefficients, grams, opposed, pairs = [], [], [], [], [], []
    stream = BatchStream(
        manifest,
        worker.plan,
        config.data,
        rank=context.rank,
        world_size=context.world_size,
        first_step=0,
        last_step=steps,
    )
    with stream as batches:
        for batch in batches:
            counted = count_globally(batch, stop_asked=False)
            record, _ = train_step(worker, batch, counted, PhaseClock())
            losses.append(record.losses)
            weights.append(record.weighting.weights)
            coefficients.append(record.weighting.coefficients)
            grams.append(unknown if record.gram is None else record.gram)
            opposed.append(record.opposes)
            counts = record.conflicts
            pairs.append(None if counts is None else (counts.conflicting, counts.compared))
    return {
        "losses": torch.stack(losses),
        "weights": torch.stack(weights),
        "coefficients": torch.stack(coefficients),
        "opposed": opposed,
        "pairs": pairs,
        "plan": worker.model.tables.plan if worker.model.tables is not None else {},
        "grams": torch.stack(grams),
        "parameters": {
            name: tensor.clone()
            for memory in (worker.model.shared, worker.model.task_specific)
            for name, tensor in memory.views(memory.vector).items()
        },
        "tables": whole_tables(worker),
    }


def whole_tables(worker: Worker) -> dict[str, torch.Tensor]:
    """Every table put together from its shards, on rank 0."""
    assert worker.model.tables is not None
    mine: list[Any] = [
        (name, shard.metadata.shard_offsets, shard.tensor.detach().clone(), tensor.size())
        for name, tensor in worker.model.tables.state_dict().items()
        if name.startswith("tables.")
        for shard in tensor.local_shards()
    ]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, mine)
    tables: dict[str, torch.Tensor] = {}
    for name, (row, column), values, size in (shard for part in gathered for shard in part):
        whole = tables.setdefault(name, torch.full(tuple(size), torch.nan))
        whole[row : row + values.shape[0], column : column + values.shape[1]] = values
    return tables


def train_variants(
    run_yaml: str | Path, world_size: int, steps: int, out: Path, variants: dict[str, list[str]]
) -> None:
    """Train each variant on so many workers, all in the same processes."""
    configs = {name: load_config(run_yaml, tuple(sets)) for name, sets in variants.items()}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run_on_workers(run_worker, world_size, port, configs, steps, str(out))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run_yaml")
    parser.add_argument("world_size", type=int)
    parser.add_argument("steps", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("variants", type=json.loads)
    options = parser.parse_args()
    train_variants(
        options.run_yaml, options.world_size, options.steps, options.out, options.variants
    )


if __name__ == "__main__":
    main()
