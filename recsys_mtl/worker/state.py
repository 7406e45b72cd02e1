"""What one worker holds: model, tables, optimizers and the room for its gradients.

B rows of this worker's batch, E columns of all pooled embeddings, T tasks, P shared parameters of
the body, H parameters of the tasks' own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from recsys_mtl.config import RunConfig
from recsys_mtl.data.plan import Plan, last_step
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.sharding import (
    Lookup,
    ShardOutputGradients,
    table_products,
)
from recsys_mtl.gradients.operations import Operations
from recsys_mtl.model.dropout import dropout_masks
from recsys_mtl.model.forward import TaskGradients
from recsys_mtl.worker.learning_rate import learning_rate_factor
from recsys_mtl.worker.model import DistributedModel, merged_by_name
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
    model: DistributedModel
    shared_rows: Tensor
    """[T, P], or [1, P] where the tasks' gradients are never compared: room for them."""
    task_specific_gradient: Tensor
    """[H]: room for each task's gradient of its own parameters."""
    loss_weights: Tensor
    """[T] What multiplies each task's loss, and so the gradient that the method sees."""
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
        compares, recon = self.weigher.method.compares_gradients, self.config.recon
        search_steps = 0 if recon is None else recon.search_steps(self.last_step)
        return step_mode(self.config.gradients, compares, step, search_steps=search_steps)

    @property
    def last_step(self) -> int:
        """Steps at the end of the configured run; one that only searches ends before."""
        training = self.config.training
        return last_step(self.plan, epochs=training.epochs, max_steps=training.max_steps)

    def learning_rate_factor(self, step: int) -> float:
        """What the learning rates of dense parameters and tables are multiplied by at `step`."""
        return learning_rate_factor(
            step,
            last_step=self.last_step,
            warm_up_steps=self.config.training.warm_up_steps,
            schedule=self.config.optimizer.schedule,
        )

    def dropout_masks(self, step: int) -> dict[str, Tensor]:
        """Site to its [B, units] mask for this worker's lanes at `step`; empty without dropout."""
        return dropout_masks(
            self.model.body.dropout_sites(),
            self.config.model.dropout,
            seed=self.config.run.seed,
            step=step,
            lanes=self.plan.lanes_of_worker(self.context.rank, self.context.world_size),
            rows_per_lane=self.plan.rows_per_lane,
            like=self.model.shared.vector,
        )

    def write_task_specific(self, tasks: Sequence[TaskGradients]) -> Tensor:
        """[H] Each task's gradient of its own parameters, in the worker's room for it."""
        views = self.model.task_specific.views(self.task_specific_gradient)
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
        if self.model.tables is None or lookup is None:
            return []
        return [self.model.tables.to_shards(lookup, gradient) for gradient in pooled_gradients]

    def table_products(
        self, lookup: Lookup | None, gradients: Sequence[ShardOutputGradients]
    ) -> Tensor:
        """[O, O] float64: products of O gradients of the tables, of this worker's shards alone."""
        assert self.model.tables is not None
        assert lookup is not None
        touched = self.model.tables.task_gradients(lookup, gradients)
        return table_products(touched, len(gradients), self.context.device)

    def products_by_table(
        self, lookup: Lookup | None, gradients: Sequence[ShardOutputGradients]
    ) -> Tensor:
        """[K, O, O] float64: the same for each of K tables apart."""
        assert self.model.tables is not None
        assert lookup is not None
        return self.model.tables.products_by_table(lookup, gradients)

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
        if self.model.tables is None or lookup is None or gradient is None:
            return
        clips = self.config.training.gradient_clip_norm is not None
        self.model.tables.update(lookup, gradient, clip=clip if clips else None, skip=skip)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of model, tables, optimizers and method, by name.

        Tensors are views of what the worker trains with: loading writes it in place.

        Raises:
            UserError: a parameter of the body has the name of something else.
        """
        return merged_by_name(
            self.model.body,
            self.model.state_dict(),
            self.optimizer.state_dict(self.model.shared, self.model.task_specific),
            self.weigher.state_dict(),
        )
