"""The body of a run, held to its graph, and what a method needs of it.

It imports no TorchRec, so that the driver can ask, too, before it starts any worker.
"""

import torch

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.gradients.backend import Backend, resolve_backend
from recsys_mtl.gradients.methods.contract import Method
from recsys_mtl.model.bodies.build import BodyFactory, body_factory, build_body
from recsys_mtl.model.bodies.contract import BodyShape, MultiTaskBody
from recsys_mtl.model.embeddings import pooled_width
from recsys_mtl.model.ownership import BodyError, Ownership, trace_ownership
from recsys_mtl.worker.checkpoint_metadata import CheckpointMetadata


def body_shape(config: RunConfig) -> BodyShape:
    """What a body of this run is built for."""
    return BodyShape(
        pooled_columns=pooled_width(config.data),
        dense_columns=config.data.dense_columns,
        task_names=config.task_names,
    )


def traced_body(config: RunConfig, make: BodyFactory | None) -> tuple[MultiTaskBody, Ownership]:
    """A body with its initial parameters, on the CPU, and where they lie.

    Args:
        make: makes a body of one's own, instead of the one that `model` describes.

    Raises:
        UserError: its declarations contradict its graph.
    """
    shape = body_shape(config)
    body = build_body(make or body_factory(config.model), shape, config.run.seed)
    try:
        return body, trace_ownership(body, shape)
    except BodyError as error:
        raise UserError(str(error)) from None


def name_of_body(body: MultiTaskBody) -> str:
    """Its class, as Python imports it."""
    return f"{type(body).__module__}.{type(body).__qualname__}"


def refuse_another_body(body: MultiTaskBody, metadata: CheckpointMetadata) -> None:
    """Raise UserError where a checkpoint's parameters are of another class of body.

    Two classes may give their parameters the same names and shapes, and mean something else.
    """
    name = name_of_body(body)
    if metadata.body and metadata.body != name:
        raise UserError(
            f"the checkpoint of run {metadata.config.run.name!r} is of the body {metadata.body}, "
            f"and this is {name}; give the body that it was trained with (from Python, as body=)"
        )


def refuse_what_does_not_fit(
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


def backend_on(device: torch.device | str, config: RunConfig) -> Backend:
    """The backend that gradients.backend asks for, on a device.

    Raises:
        UserError: it cannot run on this device.
    """
    try:
        return resolve_backend(config.gradients.backend, device, num_tasks=len(config.task_names))
    except ValueError as error:
        raise UserError(f"gradients.backend: {error}") from None
