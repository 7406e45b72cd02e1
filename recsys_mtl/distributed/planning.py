"""Which shard of which embedding table lies on which worker: by TorchRec's planner, or as before.

The plan is made by one worker and handed to all: made apart, plans could differ with the memory
of the machines.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharding_spec.api import EnumerableShardingSpec
from torchrec import EmbeddingBagCollection
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    PlannerError,
    PlannerErrorType,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import EmbeddingModuleShardingPlan, ParameterSharding, ShardingPlan

from recsys_mtl.config import Data, TableSharding, UserError, refuse_on_cpu
from recsys_mtl.data.features import table_sizes
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.torchrec_inputs import table_name

_TOO_LARGE = (PlannerErrorType.INSUFFICIENT_STORAGE, PlannerErrorType.STRICT_CONSTRAINTS)
"""All tables for all workers, or a table for a worker."""

# Of a worker's memory; the rest is for batches, dense parameters and their gradients.
_TABLES_SHARE = 0.8

PlanRecord = Mapping[str, list[Mapping[str, Any]]]
"""Table to its shards, each {kind, kernel, rank, offsets, sizes, placement}: JSON."""


def make_plan(
    tables: EmbeddingBagCollection,
    sharder: EmbeddingBagCollectionSharder,
    data: Data,
    wanted: Mapping[str, TableSharding],
    context: WorkerContext,
) -> ShardingPlan:
    """TorchRec's plan within what is wanted of each table.

    Raises:
        UserError: a kind or kernel that this device has not, or tables that do not fit into memory.
    """
    constraints = {}
    for owner in table_sizes(data):
        sharding = wanted.get(owner, TableSharding())
        if context.device.type == "cpu":
            try:
                refuse_on_cpu(owner, sharding)
            except ValueError as error:
                raise UserError(str(error)) from None
        constraints[table_name(owner)] = ParameterConstraints(
            sharding_types=[sharding.kind],
            compute_kernels=[sharding.kernel],
            min_partition=sharding.columns_per_shard,
        )
    memory = _memory_for_tables(context)
    planner = EmbeddingShardingPlanner(
        topology=_topology(context, memory),
        constraints=constraints,
        # Nothing but what was left out of the memory: TorchRec would reserve of a GPU's alone.
        storage_reservation=FixedPercentageStorageReservation(0),
        debug=False,
        stats=[],
    )
    try:
        return planner.plan(tables, [sharder])
    except PlannerError as error:
        if error.error_type not in _TOO_LARGE:
            raise
        sizes = {
            table.name: 4 * table.num_embeddings * table.embedding_dim / 1e9
            for table in tables.embedding_bag_configs()
        }
        largest = max(sizes, key=lambda name: sizes[name])
        raise UserError(
            f"the embedding tables ({sum(sizes.values()):,.1f} GB without optimizer state, "
            f"{largest} {sizes[largest]:,.1f} GB) do not fit on {context.world_size} worker(s) "
            f"with {memory[context.device.type] / 1e9:,.1f} GB for tables each; take more workers, "
            "fewer rows, or column_wise shards for a table larger than one worker's memory."
        ) from None


def record_of(plan: ShardingPlan) -> PlanRecord:
    """The plan as plain numbers, for `plan_from` of a later start."""
    return {
        table: [
            {
                "kind": sharding.sharding_type,
                "kernel": sharding.compute_kernel,
                "rank": shard.placement.rank(),
                "offsets": list(shard.shard_offsets),
                "sizes": list(shard.shard_sizes),
                "placement": str(shard.placement),
            }
            for shard in sharding.sharding_spec.shards
        ]
        for table, sharding in _only_module(plan).items()
    }


def plan_from(record: PlanRecord) -> ShardingPlan:
    """The plan that `record_of` wrote down."""
    tables = {
        table: ParameterSharding(
            sharding_type=shards[0]["kind"],
            compute_kernel=shards[0]["kernel"],
            ranks=[shard["rank"] for shard in shards],
            sharding_spec=EnumerableShardingSpec(
                [ShardMetadata(s["offsets"], s["sizes"], s["placement"]) for s in shards]
            ),
        )
        for table, shards in record.items()
    }
    return ShardingPlan({"": EmbeddingModuleShardingPlan(tables)})


def describe(record: PlanRecord) -> list[str]:
    """The plan for a person: one line per worker, its shards with rows x columns."""
    shards = [(table, shard) for table, shards in record.items() for shard in shards]
    lines = []
    for rank in sorted({shard["rank"] for _, shard in shards}):
        own = [(table, shard) for table, shard in shards if shard["rank"] == rank]
        numbers = sum(shard["sizes"][0] * shard["sizes"][1] for _, shard in own)
        names = ", ".join(_name(table, shard) for table, shard in own)
        lines.append(f"worker {rank}: {len(own)} shard(s), {4 * numbers / 1e6:,.1f} MB: {names}")
    return lines


def _name(table: str, shard: Mapping[str, Any]) -> str:
    rows, columns = shard["sizes"]
    kind = "" if shard["kind"] == "table_wise" else f" {shard['kind']} from {shard['offsets']}"
    kernel = "" if shard["kernel"] == "fused" else f" {shard['kernel']}"
    return f"{table} {rows:,} x {columns}{kind}{kernel}"


def fits(record: PlanRecord, data: Data, context: WorkerContext) -> bool:
    """Whether an earlier plan is one for these tables, workers and devices."""
    shards = [shard for shards in record.values() for shard in shards]
    places = all(shard["placement"] == _placement(shard["rank"], context) for shard in shards)
    ranks = all(shard["rank"] < context.world_size for shard in shards)
    return places and ranks and record.keys() == {table_name(o) for o in table_sizes(data)}


def _placement(rank: int, context: WorkerContext) -> str:
    """Where TorchRec puts a worker's shards."""
    if context.device.type == "cpu":
        return f"rank:{rank}/cpu"
    return f"rank:{rank}/{context.device.type}:{rank % context.local_world_size}"


def _only_module(plan: ShardingPlan) -> Mapping[str, Any]:
    (module,) = plan.plan.values()
    return dict(module)


def _memory_bytes() -> int:
    """The memory of this machine, or of its container where that has less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")  # control groups, version 2
    text = limit.read_text().strip() if limit.exists() else "max"
    return physical if text == "max" else min(physical, int(text))


def _memory_for_tables(context: WorkerContext) -> dict[str, int]:
    """Bytes of one worker, by the type of device."""
    memory = {"cpu": int(_TABLES_SHARE * _memory_bytes() / context.local_world_size)}
    if context.device.type == "cuda":
        memory["cuda"] = int(_TABLES_SHARE * torch.cuda.mem_get_info()[1])
    return memory


def _topology(context: WorkerContext, memory: Mapping[str, int]) -> Any:
    return TopologyFactory.create_topology(
        trainer_config=TrainerConfig(
            world_size=context.world_size, local_world_size=context.local_world_size
        ),
        hardware_config=HardwareConfig(
            ddr_cap_bytes=memory["cpu"], hbm_cap_bytes=memory.get("cuda")
        ),
        kernel_config=KernelConfig(compute_device=context.device.type),
    )
