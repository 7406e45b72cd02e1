"""The embedding tables, cut over the workers by TorchRec.

Only the tables go into DistributedModelParallel; the dense part of the model is reduced by us.
TorchRec fuses the tables' optimizer into their backward: one backward is one update.

B batch rows of this worker, D_f embedding dimension of feature f.
"""

import os
from pathlib import Path
from typing import Any

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch import Tensor
from torchrec import EmbeddingBagCollection, KeyedJaggedTensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.comm_ops import set_gradient_division
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    PlannerError,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import ShardingPlan

from recsys_mtl.config import Data, Tables, UserError
from recsys_mtl.distributed.collectives import made_by_first
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.model.embeddings import initial_rows, table_descriptions, table_name

_OPTIMIZERS = {
    "rowwise_adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    "adagrad": EmbOptimType.EXACT_ADAGRAD,
    "sgd": EmbOptimType.EXACT_SGD,
}


class ShardedTables:
    """All embedding tables of a run, each shard on one worker, with their fused optimizer."""

    def __init__(self, data: Data, optimizer: Tables, context: WorkerContext, seed: int) -> None:
        # The sum of the workers' gradients is already the gradient of the global mean.
        set_gradient_division(False)
        self._features = [(name, feature.pooling == "mean") for name, feature in data.id_features()]
        self._learning_rate, self._factor = optimizer.learning_rate, 1.0
        self._tables = EmbeddingBagCollection(
            tables=table_descriptions(data), device=torch.device("meta")
        )
        sharder = EmbeddingBagCollectionSharder(
            fused_params={
                "optimizer": _OPTIMIZERS[optimizer.kind],
                "learning_rate": optimizer.learning_rate,
                "eps": optimizer.epsilon,
            }
        )
        self.plan: ShardingPlan = made_by_first(
            context.rank, lambda: _plan(self._tables, sharder, data, context)
        )
        """Which shard of which table lies on which worker."""
        self._sharded = DistributedModelParallel(
            self._tables, device=context.device, plan=self.plan, sharders=[sharder]
        )
        self._write_initial_rows(seed)

    def __call__(self, ids: KeyedJaggedTensor, learning_rate_factor: float) -> Tensor:
        """[B, sum of D_f] Pooled embeddings, features side by side in the configuration's order.

        TorchRec's own order follows the plan, which changes with the number of workers.

        Args:
            ids: this worker's rows.
            learning_rate_factor: of the configured learning rate, for the `update` of what is
                returned: fbgemm's lookup hands the rate of its forward to its backward.
        """
        self._set_learning_rate(learning_rate_factor)
        pooled = self._sharded(ids)
        columns = []
        for feature, mean in self._features:
            column = pooled[feature]
            if mean:
                column = column / ids[feature].lengths().clamp(min=1).unsqueeze(1)
            columns.append(column)
        return torch.cat(columns, dim=1)

    def update(self, pooled: Tensor, gradient: Tensor) -> None:
        """One step of the tables' optimizer.

        Args:
            pooled: what `__call__` returned, with its graph.
            gradient: [B, sum of D_f] of the loss for `pooled`, this worker's rows.
        """
        torch.autograd.backward(pooled, gradient)

    def _set_learning_rate(self, factor: float) -> None:
        if factor == self._factor:
            return
        self._factor = factor
        optimizer = self._sharded.fused_optimizer
        for group in optimizer.param_groups:
            group["lr"] = factor * self._learning_rate
        optimizer.step()  # hands the rate to fbgemm; the update itself is in the backward

    def state(self) -> dict[str, Any]:
        """Shards and optimizer state for torch.distributed.checkpoint, which loads in place."""
        return {
            "rows": self._sharded.state_dict(),
            "optimizer": self._sharded.fused_optimizer.state_dict()["state"],
        }

    def num_parameters(self) -> int:
        """Numbers in all tables together."""
        return sum(c.num_embeddings * c.embedding_dim for c in self._configs())

    def _configs(self) -> list[Any]:
        return list(self._tables.embedding_bag_configs())

    def _write_initial_rows(self, seed: int) -> None:
        weights = self._sharded.state_dict()
        for index, config in enumerate(self._configs()):
            for shard in weights[f"embedding_bags.{config.name}.weight"].local_shards():
                (row, column), (rows, columns) = (
                    shard.metadata.shard_offsets,
                    shard.metadata.shard_sizes,
                )
                drawn = initial_rows(
                    seed=seed,
                    table=index,
                    total_rows=config.num_embeddings,
                    dim=config.embedding_dim,
                    start=row,
                    stop=row + rows,
                )
                shard.tensor.detach().copy_(drawn[:, column : column + columns])


def _plan(
    tables: EmbeddingBagCollection,
    sharder: EmbeddingBagCollectionSharder,
    data: Data,
    context: WorkerContext,
) -> ShardingPlan:
    """TorchRec's plan within the configured kinds of shards.

    Raises:
        UserError: row-wise shards on CPU, or tables that do not fit into memory.
    """
    device = context.device.type
    constraints = {}
    for name, feature in data.id_features():
        kind = feature.sharding or "table_wise"
        if kind == "row_wise" and device == "cpu":
            raise UserError(
                f"data.features.{name}.sharding is row_wise, which TorchRec has on CUDA only; "
                "choose table_wise or column_wise"
            )
        # Never data_parallel, the CPU planner's choice for small tables: its gradients stay
        # local and escape the fused optimizer.
        constraints[table_name(name)] = ParameterConstraints(
            sharding_types=[kind], compute_kernels=["fused"]
        )
    planner = EmbeddingShardingPlanner(
        topology=_topology(context), constraints=constraints, debug=False, stats=[]
    )
    try:
        return planner.plan(tables, [sharder])
    except PlannerError as error:
        configs = tables.embedding_bag_configs()
        gigabytes = sum(4 * c.num_embeddings * c.embedding_dim for c in configs) / 1e9
        raise UserError(
            f"the embedding tables ({gigabytes:.1f} GB without optimizer state) do not fit on "
            f"{context.world_size} worker(s); take more workers, fewer rows, or column_wise "
            f"shards for a table larger than one worker's memory. TorchRec says: {error}"
        ) from None


def _memory_bytes() -> int:
    """Of this machine, or of the container where that has less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")  # control groups, version 2
    text = limit.read_text().strip() if limit.exists() else "max"
    return physical if text == "max" else min(physical, int(text))


def _topology(context: WorkerContext) -> Any:
    memory = _memory_bytes()
    on_cuda = context.device.type == "cuda"
    return TopologyFactory.create_topology(
        trainer_config=TrainerConfig(
            world_size=context.world_size, local_world_size=context.local_world_size
        ),
        hardware_config=HardwareConfig(
            ddr_cap_bytes=memory // context.local_world_size,
            hbm_cap_bytes=torch.cuda.mem_get_info()[1] if on_cuda else None,
        ),
        kernel_config=KernelConfig(compute_device=context.device.type),
    )
