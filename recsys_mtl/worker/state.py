"""What one worker holds: model, tables, optimizers and the room for its gradients.

B rows of this worker's batch, T tasks, P parameters of the bottom, H of the heads.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recsys_mtl.config import GradOPS, RunConfig, Uniform, UserError
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.plan import Plan, plan_of
from recsys_mtl.distributed.collectives import broadcast_from_first
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.planning import PlanRecord
from recsys_mtl.distributed.sharding import Lookup, ShardedTables
from recsys_mtl.gradients.backend import Backend, resolve_backend
from recsys_mtl.gradients.operations import Operations, operations_of
from recsys_mtl.model.embeddings import pooled_width
from recsys_mtl.model.flat_memory import FlatParameters
from recsys_mtl.model.shared_bottom import Heads, SharedBottom, build_dense_model, dropout_masks
from recsys_mtl.model.tape import Tape, run_forward
from recsys_mtl.worker.optimizers import DenseOptimizer


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
    shared_gradients: Tensor
    """[T, P], or [1, P] for a method that never has a gradient a task."""
    private_gradient: Tensor
    """[H]"""
    held: Tensor
    """[2, T] float64: the newest weights and coefficients, 1 before the first; kept for the steps
    that do not compute their own."""
    operations: Operations
    """On task gradients: plain torch or Triton kernels."""
    optimizer: DenseOptimizer

    def look_up(self, batch: ClickBatch, learning_rate_factor: float = 1.0) -> Lookup | None:
        """The batch's pooled embeddings; None for a model without id features.

        The tables' learning rate is decided here: TorchRec's lookup takes it along.
        """
        if self.tables is None or batch.ids is None:
            return None
        return self.tables.look_up(batch.ids, learning_rate_factor)

    def forward(self, lookup: Lookup | None, dense: Tensor, masks: list[Tensor]) -> Tape:
        """Bottom and heads on pooled embeddings and dense inputs."""
        inputs = dense if lookup is None else torch.cat([lookup.pooled.detach(), dense], dim=1)
        precision = getattr(torch, self.config.training.precision)
        return run_forward(self.bottom, self.heads, inputs, masks, precision)

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
            "held": self.held,
            "dense_optimizer": self.optimizer.state(),
            "tables": self.tables.state() if self.tables is not None else {},
        }


def build(
    config: RunConfig,
    context: WorkerContext,
    manifest: Manifest,
    earlier_plan: PlanRecord | None = None,
) -> Worker:
    """Model, tables and optimizers before the first step: the same for any number of workers.

    Args:
        earlier_plan: which shard lay where when the run was interrupted; kept to where it can be.
    """
    plan = plan_of(
        manifest,
        config.data,
        global_batch_size=config.training.global_batch_size,
        seed=config.run.seed,
    )
    has_tables = bool(config.data.id_features())
    tables = (
        ShardedTables(
            config.data,
            config.optimizer.tables,
            config.sharding,
            context,
            config.run.seed,
            earlier_plan,
        )
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
    num_tasks = len(config.task_names)
    operations = operations_of(_backend(config, context))
    rows = 1 if isinstance(config.method, Uniform) else num_tasks
    return Worker(
        config=config,
        context=context,
        plan=plan,
        tables=tables,
        bottom=bottom,
        heads=heads,
        shared=shared,
        private=private,
        shared_gradients=shared.task_gradients(rows),
        private_gradient=torch.zeros_like(private.vector),
        held=torch.ones(2, num_tasks, dtype=torch.float64, device=context.device),
        operations=operations,
        optimizer=DenseOptimizer(config.optimizer.dense, shared.vector, private.vector, operations),
    )


def _backend(config: RunConfig, context: WorkerContext) -> Backend:
    """The backend asked for.

    Raises:
        UserError: it cannot run on this device.
    """
    if not isinstance(config.method, GradOPS):
        return "torch"  # the sum of the losses has nothing to compare
    try:
        return resolve_backend(
            config.method.backend, context.device, num_tasks=len(config.task_names)
        )
    except ValueError as error:
        raise UserError(f"method.backend: {error}") from None
