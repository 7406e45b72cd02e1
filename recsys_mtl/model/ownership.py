"""Which parameters of a body lie below the representation and which above, seen by autograd.

A body declares what is shared. A declaration that is wrong would train without an error: a gradient
that nobody asks for is never taken. So it is held to the graph once, when a body is built.

T tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.contract import BodyInputs, BodyShape, MultiTaskBody

_ROWS = 2


class BodyError(ValueError):
    """A body's declarations contradict its graph. Says which parameter, and what to declare."""


@dataclass(frozen=True)
class Ownership:
    """Where the shared parameters of a body are used; one may be used in both places."""

    trunk: tuple[str, ...]
    """Names of those below the representation, in the order of `shared_parameters`."""
    above: tuple[str, ...]
    """Names of those that `logits` uses."""
    pooled_parts: tuple[bool, ...]
    """For each part of the representation, whether it is the pooled embeddings themselves."""


def trace_ownership(body: MultiTaskBody, shape: BodyShape) -> Ownership:
    """Follow two rows of inputs through the body.

    Raises:
        BodyError: a parameter is declared nowhere or twice, is in no layer, or is shared by other
            tasks than declared.
    """
    shared = body.shared_parameters()
    own = [body.task_parameters(task) for task in range(len(shape.task_names))]
    everything = _declared_once(body, shared, own)
    inputs = BodyInputs(
        torch.ones(_ROWS, shape.pooled_columns), torch.ones(_ROWS, shape.dense_columns)
    )
    representation = body.representation(inputs, {})
    reached_by_task = [
        _reached(body.logits(representation, task, {}), everything) for task in range(len(own))
    ]
    _as_declared(reached_by_task, shared, own, shape.task_names)
    cut = tuple(part.detach() for part in representation)
    above = set[str]()
    for task in range(len(own)):
        above |= _reached(body.logits(cut, task, {}), shared)
    below = set[str]()
    for part in representation:
        below |= _reached(part, shared)
    return Ownership(
        trunk=tuple(name for name in shared if name in below),
        above=tuple(name for name in shared if name in above),
        pooled_parts=tuple(part is inputs.pooled for part in representation),
    )


def _declared_once(
    body: MultiTaskBody,
    shared: Mapping[str, nn.Parameter],
    own: list[dict[str, nn.Parameter]],
) -> dict[str, nn.Parameter]:
    """Every parameter by its declared name."""
    everything: dict[str, nn.Parameter] = {}
    for declared in (shared, *own):
        twice = everything.keys() & declared.keys()
        if twice:
            raise BodyError(
                f"parameter {min(twice)!r} of the body {type(body).__name__} is declared twice; "
                "declare it in shared_parameters or in one task's task_parameters"
            )
        everything |= declared
    declared_tensors = {id(parameter) for parameter in everything.values()}
    for name, parameter in body.named_parameters():
        if id(parameter) not in declared_tensors:
            raise BodyError(
                f"parameter {name!r} of the body {type(body).__name__} is declared nowhere and "
                "would never be trained; declare it in shared_parameters or task_parameters"
            )
    in_layers = [name for names in body.shared_layers().values() for name in names]
    if sorted(in_layers) != sorted(shared):
        wrong = sorted(set(in_layers) ^ set(shared)) or sorted(in_layers)
        raise BodyError(
            f"shared_layers of the body {type(body).__name__} must name each shared parameter "
            f"once; look at {wrong[0]!r}"
        )
    return everything


def _as_declared(
    reached_by_task: list[set[str]],
    shared: Mapping[str, nn.Parameter],
    own: list[dict[str, nn.Parameter]],
    task_names: tuple[str, ...],
) -> None:
    """Raise BodyError where what the losses reach is not what is declared."""
    owner = {name: task for task, names in enumerate(own) for name in names}
    for name in (*shared, *owner):
        tasks = [task for task, reached in enumerate(reached_by_task) if name in reached]
        names = ", ".join(task_names[task] for task in tasks) or "no task"
        if name in owner and tasks != [owner[name]]:
            raise BodyError(
                f"parameter {name!r} is declared as task {task_names[owner[name]]!r}'s own, but "
                f"the losses of {names} reach it; declare it where it belongs"
            )
        # With one task everything is reached by it alone, and the shared ones stay shared.
        if name in shared and (not tasks or (len(tasks) == 1 and len(own) > 1)):
            raise BodyError(
                f"parameter {name!r} is declared as shared, but the losses of {names} alone reach "
                "it; declare it in that task's task_parameters, or remove it"
            )


def _reached(output: Tensor, parameters: Mapping[str, nn.Parameter]) -> set[str]:
    """Names of the parameters that the graph of `output` leads to."""
    if not output.requires_grad or not parameters:
        return set()
    gradients = torch.autograd.grad(
        output.sum(), list(parameters.values()), retain_graph=True, allow_unused=True
    )
    return {name for name, g in zip(parameters, gradients, strict=True) if g is not None}
