"""From the configuration to a worker before its first step.

T tasks.
"""

import torch
from torch import Tensor

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.plan import plan_of
from recsys_mtl.distributed.collectives import broadcast_from_first
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.planning import PlanRecord
from recsys_mtl.distributed.sharding import ShardedTables
from recsys_mtl.gradients.backend import Backend, resolve_backend
from recsys_mtl.gradients.methods.contract import Method
from recsys_mtl.gradients.operations import operations_of
from recsys_mtl.model.bodies.build import BodyFactory, body_factory, build_body
from recsys_mtl.model.bodies.contract import BodyShape, MultiTaskBody
from recsys_mtl.model.embeddings import pooled_width
from recsys_mtl.model.flat_memory import FlatMemory
from recsys_mtl.model.ownership import BodyError, Ownership, trace_ownership
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
    operations = operations_of(_backend(config, context))
    method = method_of(config.method, operations) if method is None else method
    _refuse_what_does_not_fit(config, method, model.body, model.ownership)
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
        shared_rows=model.shared.rows(num_tasks if method.compares_gradients else 1),
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
    made, ownership = _body(config, body or body_factory(config.model))
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


def body_shape(config: RunConfig) -> BodyShape:
    """What a body of this run is built for."""
    return BodyShape(
        pooled_columns=pooled_width(config.data),
        dense_columns=len(config.data.dense_features()),
        task_names=config.task_names,
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


def _body(config: RunConfig, make: BodyFactory) -> tuple[MultiTaskBody, Ownership]:
    """A body with its initial parameters, on the CPU, and where they lie.

    Raises:
        UserError: its declarations contradict its graph.
    """
    shape = body_shape(config)
    body = build_body(make, shape, config.run.seed)
    try:
        return body, trace_ownership(body, shape)
    except BodyError as error:
        raise UserError(str(error)) from None


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


def _refuse_what_does_not_fit(
    config: RunConfig, method: Method, body: MultiTaskBody, ownership: Ownership
) -> None:
    """Raise UserError where the body or the section `gradients` lacks what the method reads."""
    if "layer_grams" in method.needs and not body.shared_layers():
        raise UserError(
            f"method {method.name!r} reads the gradients of shared layers, and the body "
            f"{type(body).__name__} shares none; take a body that does, or another method"
        )
    if config.gradients.space != "representation" or not method.compares_gradients:
        return
    if "layer_grams" in method.needs:
        raise UserError(
            f"gradients.space is representation, where no gradient of a layer is known, and method "
            f"{method.name!r} reads them; choose space: parameters"
        )
    if ownership.above:
        raise UserError(
            "gradients.space is representation, but the body has shared parameters above it "
            f"({', '.join(ownership.above)}), of which nothing would be known there; choose "
            "space: parameters"
        )


def _loss_weights(config: RunConfig, context: WorkerContext) -> Tensor:
    """[T] `loss_weight` of each task."""
    weights = [label.loss_weight for label in config.data.labels.values()]
    return torch.tensor(weights, dtype=torch.float32).to(context.device)


def _backend(config: RunConfig, context: WorkerContext) -> Backend:
    """The backend asked for.

    Raises:
        UserError: it cannot run on this device.
    """
    try:
        return resolve_backend(
            config.gradients.backend, context.device, num_tasks=len(config.task_names)
        )
    except ValueError as error:
        raise UserError(f"gradients.backend: {error}") from None
