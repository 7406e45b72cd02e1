"""What one worker holds: model, tables, optimizers and the room for its gradients.

B rows of this worker's batch, T tasks, O objectives (T, or 1 for the uniform sum), P shared
parameters, H head parameters, E columns of all pooled embeddings.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recsys_mtl.config import RunConfig
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.plan import Plan
from recsys_mtl.data.stream import plan_of
from recsys_mtl.distributed.collectives import broadcast_from_first
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.sharding import ShardedTables
from recsys_mtl.gradients.flat import FlatParameters
from recsys_mtl.gradients.methods import objective_tasks
from recsys_mtl.model.embeddings import pooled_width
from recsys_mtl.model.shared_bottom import Heads, SharedBottom, build_dense_model, dropout_masks
from recsys_mtl.optimizers import DenseOptimizer


@dataclass(frozen=True)
class Worker:
    """Everything one worker trains with."""

    config: RunConfig
    context: WorkerContext
    plan: Plan
    """Of data.train."""
    tables: ShardedTables | None
    """None for a model without id features."""
    bottom: SharedBottom
    heads: Heads
    shared: FlatParameters
    """The bottom, [P]."""
    private: FlatParameters
    """The heads, [H]."""
    head_parameters: list[list[nn.Parameter]]
    """[O] the heads that get their gradient from each objective."""
    shared_gradients: Tensor
    """[O, P]"""
    private_gradient: Tensor
    """[H]"""
    optimizer: DenseOptimizer

    def forward(self, pooled: Tensor, dense: Tensor, masks: list[Tensor]) -> Tensor:
        """[B, T] logits of pooled embeddings [B, E] and dense inputs."""
        logits: Tensor = self.heads(self.bottom(torch.cat([pooled, dense], dim=1), masks))
        return logits

    def pooled(self, batch: ClickBatch, learning_rate_factor: float = 1.0) -> Tensor:
        """[B, E] The batch's pooled embeddings, with the graph that updates the tables.

        The update's learning rate is decided here: TorchRec's lookup takes it along.
        """
        if self.tables is None or batch.ids is None:
            return batch.dense.new_zeros(len(batch.dense), 0)
        return self.tables(batch.ids, learning_rate_factor)

    def dropout_masks(self, step: int) -> list[Tensor]:
        """One [B, units] mask a layer for this worker's lanes at `step`; empty without dropout."""
        return dropout_masks(
            self.config.model,
            seed=self.config.run.seed,
            step=step,
            lanes=self.plan.lanes_of_worker(self.context.rank, self.context.world_size),
            rows_per_lane=self.plan.rows_per_lane,
            like=self.shared.vector,
        )

    def tensors(self) -> dict[str, Any]:
        """What a checkpoint holds of model and optimizers; loading writes it in place."""
        return {
            "shared": self.shared.vector,
            "private": self.private.vector,
            "dense_optimizer": self.optimizer.state(),
            "tables": self.tables.state() if self.tables is not None else {},
        }


def build(config: RunConfig, context: WorkerContext, manifest: Manifest) -> Worker:
    """Model, tables and optimizers before the first step: the same for any number of workers."""
    plan = plan_of(
        manifest,
        config.data,
        global_batch_size=config.training.global_batch_size,
        seed=config.run.seed,
    )
    has_tables = bool(config.data.id_features())
    tables = (
        ShardedTables(config.data, config.optimizer.tables, context, config.run.seed)
        if has_tables
        else None
    )
    input_width = pooled_width(config.data) + len(config.data.dense_features())
    bottom, heads = build_dense_model(
        config.model, input_width, len(config.task_names), config.run.seed
    )
    shared = FlatParameters(bottom.to(context.device).parameters())
    private = FlatParameters(heads.to(context.device).parameters())
    for vector in (shared.vector, private.vector):
        broadcast_from_first(vector)
    groups = objective_tasks(config.method, len(config.task_names))
    return Worker(
        config=config,
        context=context,
        plan=plan,
        tables=tables,
        bottom=bottom,
        heads=heads,
        shared=shared,
        private=private,
        head_parameters=[
            [p for t in group for p in heads.towers[t].parameters()] for group in groups
        ],
        shared_gradients=shared.task_gradients(len(groups)),
        private_gradient=torch.zeros_like(private.vector),
        optimizer=DenseOptimizer(config.optimizer.dense, [shared.vector, private.vector]),
    )
