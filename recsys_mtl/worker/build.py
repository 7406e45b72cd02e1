"""From the configuration to a worker before its first step.

T tasks.
"""

import torch
from torch import Tensor

from recsys_mtl.config import RunConfig
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.plan import plan_of
from recsys_mtl.distributed.collectives import broadcast_from_first
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.planning import PlanRecord
from recsys_mtl.distributed.sharding import ShardedTables
from recsys_mtl.gradients.methods.contract import Method
from recsys_mtl.gradients.operations import operations_of
from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.model.bodies.contract import MultiTaskBody
from recsys_mtl.model.flat_memory import FlatMemory
from recsys_mtl.worker.body import backend_on, refuse_what_does_not_fit, traced_body
from recsys_mtl.worker.methods import method_of
from recsys_mtl.worker.model import DistributedModel
from recsys_mtl.worker.optimizers import DenseOptimizer
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.weighing import TaskWeigher


def build(
    config: RunConfig,
    context: WorkerContext,
    manifest: Manifest,
    earlier_plan: PlanRecord | None = None,
    *,
    body: BodyFactory | None = None,
    method: Method | None = None,
) -> Worker:
    """Model, tables and optimizers before the first step: the same for any number of workers.

    Args:
        manifest: of data.train.
        earlier_plan: which shard lay where when the run was interrupted; kept to where it can be.
        body: makes a body of one's own, instead of the one that `model` describes.
        method: one's own, instead of the one that `method` describes.

    Raises:
        UserError: a backend that cannot run here, or a body and a method that do not fit.
    """
    model = build_model(config, context, earlier_plan, body=body)
    operations = operations_of(backend_on(context.device, config))
    method = method_of(config, operations) if method is None else method
    refuse_what_does_not_fit(config, method, model.body, model.ownership)
    num_tasks = len(config.task_names)
    worker = Worker(
        config=config,
        context=context,
        plan=plan_of(
            manifest,
            config.data,
            global_batch_size=config.training.global_batch_size,
            seed=config.run.seed,
        ),
        model=model,
        shared_rows=model.shared.rows(
            num_tasks if method.compares_gradients or config.recon is not None else 1
        ),
        task_specific_gradient=torch.zeros_like(model.task_specific.vector),
        loss_weights=_loss_weights(config, context),
        weigher=TaskWeigher(method, num_tasks, config.run.seed, context.device),
        operations=operations,
        optimizer=DenseOptimizer(
            config.optimizer.dense, model.shared.vector, model.task_specific.vector, operations
        ),
    )
    worker.state_dict()  # so that names which collide are found before training
    return worker


def build_model(
    config: RunConfig,
    context: WorkerContext,
    earlier_plan: PlanRecord | None = None,
    *,
    body: BodyFactory | None = None,
) -> DistributedModel:
    """What scores a batch, with its initial parameters; see `build`."""
    tables = _tables(config, context, earlier_plan)
    made, ownership = traced_body(config, body)
    made.to(context.device)
    shared, task_specific = _in_flat_memory(made, config, context)
    return DistributedModel(
        config=config,
        context=context,
        tables=tables,
        body=made,
        ownership=ownership,
        shared=shared,
        task_specific=task_specific,
    )


def _tables(
    config: RunConfig, context: WorkerContext, earlier_plan: PlanRecord | None
) -> ShardedTables | None:
    """The embedding tables, cut over the workers; None for a model without id features."""
    if not config.data.id_features():
        return None
    return ShardedTables(
        config.data,
        config.optimizer.tables,
        config.sharding,
        context,
        config.run.seed,
        earlier_plan,
    )


def _in_flat_memory(
    body: MultiTaskBody, config: RunConfig, context: WorkerContext
) -> tuple[FlatMemory, FlatMemory]:
    """The shared and the tasks' own parameters, moved into one vector each; rank 0's everywhere."""
    own = [body.task_parameters(task) for task in range(len(config.task_names))]
    shared = FlatMemory(body.shared_parameters(), body.shared_layers(), context.device)
    task_specific = FlatMemory(
        {name: parameter for parameters in own for name, parameter in parameters.items()},
        {task: tuple(names) for task, names in zip(config.task_names, own, strict=True)},
        context.device,
    )
    for memory in (shared, task_specific):
        broadcast_from_first(memory.vector)
    return shared, task_specific


def _loss_weights(config: RunConfig, context: WorkerContext) -> Tensor:
    """[T] `loss_weight` of each task."""
    weights = [label.loss_weight for label in config.data.labels.values()]
    return torch.tensor(weights, dtype=torch.float32).to(context.device)
