"""What one worker holds: model, tables, optimizers and the room for its gradients.

B rows of this worker's batch, E columns of all pooled embeddings, T tasks, P shared parameters of
the body, H parameters of the tasks' own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.plan import Plan
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.sharding import (
    Lookup,
    ShardedTables,
    ShardOutputGradients,
    table_products,
)
from recsys_mtl.gradients.operations import Operations
from recsys_mtl.model.bodies.contract import MultiTaskBody
from recsys_mtl.model.dropout import dropout_masks
from recsys_mtl.model.flat_memory import FlatMemory
from recsys_mtl.model.forward import Forward, TaskGradients, run_forward
from recsys_mtl.model.ownership import Ownership
from recsys_mtl.worker.optimizers import DenseOptimizer
from recsys_mtl.worker.step_mode import StepMode, step_mode
from recsys_mtl.worker.weighing import TaskWeigher


@dataclass(frozen=True)
class Worker:
    """Everything one worker trains with."""

    config: RunConfig
    context: WorkerContext
    plan: Plan
    """How data.train is cut into steps."""
    tables: ShardedTables | None
    """None for a model without id features."""
    body: MultiTaskBody
    ownership: Ownership
    """Which of the body's shared parameters lie below the representation."""
    shared: FlatMemory
    """The body's shared parameters, [P]."""
    task_specific: FlatMemory
    """The tasks' own parameters, [H]: one layer per task."""
    shared_rows: Tensor
    """[T, P], or [1, P] for a method that never compares the tasks' gradients: room for them."""
    task_specific_gradient: Tensor
    """[H]: room for each task's gradient of its own parameters."""
    weigher: TaskWeigher
    """The method, and what it remembers."""
    operations: Operations
    """On task gradients: plain torch or Triton kernels."""
    optimizer: DenseOptimizer

    @property
    def tables_in_gram(self) -> bool:
        """Whether the tables move by the coefficients, and count in the products, if any."""
        compares = self.weigher.method.compares_gradients
        return not compares or self.config.gradients.scope == "all"

    def mode(self, step: int) -> StepMode:
        """What `step` computes."""
        compares = self.weigher.method.compares_gradients
        return step_mode(self.config.gradients, compares, step)

    def look_up(self, batch: ClickBatch, learning_rate_factor: float = 1.0) -> Lookup | None:
        """The batch's pooled embeddings; None for a model without id features.

        The tables' learning rate is decided here: TorchRec's lookup takes it along.
        """
        if self.tables is None or batch.ids is None:
            return None
        return self.tables.look_up(batch.ids, learning_rate_factor)

    def forward(
        self, lookup: Lookup | None, dense: Tensor, masks: dict[str, Tensor] | None = None
    ) -> Forward:
        """The body on pooled embeddings and dense inputs.

        Args:
            masks: of dropout; None in evaluation.
        """
        return run_forward(
            self.body,
            self.ownership,
            dense.new_empty(len(dense), 0) if lookup is None else lookup.pooled,
            dense,
            masks or {},
            num_tasks=len(self.config.task_names),
            precision=getattr(torch, self.config.training.precision),
        )

    def dropout_masks(self, step: int) -> dict[str, Tensor]:
        """Site to its [B, units] mask for this worker's lanes at `step`; empty without dropout."""
        return dropout_masks(
            self.body.dropout_sites(),
            self.config.model.dropout,
            seed=self.config.run.seed,
            step=step,
            lanes=self.plan.lanes_of_worker(self.context.rank, self.context.world_size),
            rows_per_lane=self.plan.rows_per_lane,
            like=self.shared.vector,
        )

    def write_task_specific(self, tasks: Sequence[TaskGradients]) -> Tensor:
        """[H] Each task's gradient of its own parameters, in the worker's room for it."""
        views = self.task_specific.views(self.task_specific_gradient)
        for task in tasks:
            for name, gradient in task.task_specific.items():
                views[name].copy_(gradient)
        return self.task_specific_gradient

    def to_shards(
        self, lookup: Lookup | None, pooled_gradients: Sequence[Tensor]
    ) -> list[ShardOutputGradients]:
        """Hand gradients [B, E] of the pooled embeddings to the workers that hold the shards.

        Returns:
            One per gradient; none without tables.
        """
        if self.tables is None or lookup is None:
            return []
        return [self.tables.to_shards(lookup, gradient) for gradient in pooled_gradients]

    def table_products(
        self, lookup: Lookup | None, gradients: Sequence[ShardOutputGradients]
    ) -> Tensor:
        """[O, O] float64: products of O gradients of the tables, of this worker's shards alone."""
        assert self.tables is not None
        assert lookup is not None
        touched = self.tables.task_gradients(lookup, gradients)
        return table_products(touched, len(gradients), self.context.device)

    def update_tables(
        self,
        lookup: Lookup | None,
        gradient: ShardOutputGradients | None,
        *,
        clip: Tensor,
        skip: Tensor,
    ) -> None:
        """One step of the tables' optimizer; without tables, nothing.

        Args:
            clip: [] multiplies the gradient.
            skip: [] bool: nothing moves.
        """
        if self.tables is None or lookup is None or gradient is None:
            return
        clips = self.config.training.gradient_clip_norm is not None
        self.tables.update(lookup, gradient, clip=clip if clips else None, skip=skip)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of model, tables, optimizers and method, by name.

        Tensors are views of what the worker trains with: loading writes it in place.

        Raises:
            UserError: a parameter of the body has the name of something else.
        """
        tensors: dict[str, Any] = {}
        for part in (
            self.shared.views(self.shared.vector),
            self.task_specific.views(self.task_specific.vector),
            self.optimizer.state_dict(self.shared, self.task_specific),
            self.weigher.state_dict(),
            self.tables.state_dict() if self.tables is not None else {},
        ):
            if taken := tensors.keys() & part.keys():
                raise UserError(
                    f"the body {type(self.body).__name__} has a parameter {min(taken)!r}, which is "
                    "the name of something else in a checkpoint; give it another name"
                )
            tensors |= part
        return tensors
