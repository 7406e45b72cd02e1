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
        BodyError: a parameter is declared nowhere or twice, has the name of another, is in no layer
            or in two, belongs to other tasks than declared, or is a task's own and used below the
            representation.
    """
    shared = body.shared_parameters()
    own = [body.task_parameters(task) for task in range(len(shape.task_names))]
    everything = _declared_once(body, shared, own)
    _each_in_one_layer(body, shared)
    inputs = BodyInputs(
        torch.ones(_ROWS, shape.pooled_columns),
        torch.ones(_ROWS, shape.dense_columns),
    )
    representation = body.representation(inputs, {})
    reached_by_task = [
        _reached(body.logits(representation, task, {}), everything) for task in range(len(own))
    ]
    _as_declared(reached_by_task, shared, own, shape.task_names)
    below = set[str]()
    for part in representation:
        below |= _reached(part, everything)
    _own_above(below, own)
    cut = tuple(part.detach() for part in representation)
    above = set[str]()
    for task in range(len(own)):
        above |= _reached(body.logits(cut, task, {}), shared)
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
    names: dict[int, str] = {}
    for name, parameter in (item for declared in (shared, *own) for item in declared.items()):
        if everything.get(name, parameter) is not parameter:
            raise BodyError(
                f"two parameters of the body {type(body).__name__} are named {name!r}; give each "
                "a name of its own"
            )
        if id(parameter) in names:
            first = names[id(parameter)]
            again = "twice" if first == name else f"twice, the second time as {name!r}"
            raise BodyError(
                f"parameter {first!r} of the body {type(body).__name__} is declared {again}; "
                "declare it in shared_parameters or in one task's task_parameters"
            )
        everything[name], names[id(parameter)] = parameter, name
    for name, parameter in body.named_parameters():
        if id(parameter) not in names:
            raise BodyError(
                f"parameter {name!r} of the body {type(body).__name__} is declared nowhere and "
                "would never be trained; declare it in shared_parameters or task_parameters"
            )
    return everything


def _each_in_one_layer(body: MultiTaskBody, shared: Mapping[str, nn.Parameter]) -> None:
    """Raise BodyError where a shared parameter is in no layer or in two, or a layer has others."""
    in_layers = [name for names in body.shared_layers().values() for name in names]
    for name in dict.fromkeys([*shared, *in_layers]):
        if in_layers.count(name) != (name in shared):
            raise BodyError(
                f"shared_layers of the body {type(body).__name__} must name each shared parameter "
                f"once, and no other; look at {name!r}"
            )


def _as_declared(
    reached_by_task: list[set[str]],
    shared: Mapping[str, nn.Parameter],
    own: list[dict[str, nn.Parameter]],
    task_names: tuple[str, ...],
) -> None:
    """Raise BodyError where what the losses depend on is not what is declared."""
    owner = {name: task for task, names in enumerate(own) for name in names}
    for name in (*shared, *owner):
        tasks = [task for task, reached in enumerate(reached_by_task) if name in reached]
        names = ", ".join(task_names[task] for task in tasks)
        if not tasks:
            raise BodyError(f"no task's loss depends on parameter {name!r}; use it or remove it")
        if name in owner and tasks != [owner[name]]:
            place = "shared_parameters" if len(tasks) > 1 else "that task's task_parameters"
            raise BodyError(
                f"parameter {name!r} is declared as task {task_names[owner[name]]!r}'s own, but "
                f"the loss of {names} depends on it; declare it in {place}"
            )
        # With one task everything is reached by it alone, and the shared ones stay shared.
        if name in shared and len(tasks) == 1 and len(own) > 1:
            raise BodyError(
                f"parameter {name!r} is declared as shared, but the loss of {names} alone depends "
                "on it; declare it in that task's task_parameters"
            )


def _own_above(below: set[str], own: list[dict[str, nn.Parameter]]) -> None:
    """Raise BodyError where a task's own parameter is used below the representation."""
    for name in (name for names in own for name in names):
        if name in below:
            raise BodyError(
                f"parameter {name!r} is declared as one task's own, but the representation depends "
                "on it, below which no gradient of a task's own is taken; use it in logits alone"
            )


def _reached(output: Tensor, parameters: Mapping[str, nn.Parameter]) -> set[str]:
    """Names of the parameters that the graph of `output` leads to."""
    if not output.requires_grad or not parameters:
        return set()
    gradients = torch.autograd.grad(
        output.sum(), list(parameters.values()), retain_graph=True, allow_unused=True
    )
    return {name for name, g in zip(parameters, gradients, strict=True) if g is not None}
