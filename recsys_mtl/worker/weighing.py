"""Asks the method for the tasks' weights, the same on every worker, and keeps what it remembers.

T tasks, L layers of the shared parameters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.config import UserError
from recsys_mtl.distributed.collectives import broadcast_from_first
from recsys_mtl.gradients.methods.contract import Evidence, Method, MethodState, TaskWeighting


@dataclass(frozen=True, eq=False)
class Weighed:
    """One step's weights, and what is to be remembered if the step is taken."""

    weighting: TaskWeighting
    finite: Tensor
    """[] bool: all that the method read and gave is finite. Where not, every weight is 0."""
    gram: Tensor | None = None
    """[T, T] float64: the products that the method read, as they were; None without any."""
    next_state: MethodState | None = None
    """The method's state after this step; None where it was not asked."""
    reusable: Tensor | None = None
    """[T] bool: the tasks whose coefficients later steps may reuse; None where none may."""


class TaskWeigher:
    """One method in use: its state, and the weights of the last step that asked it."""

    def __init__(self, method: Method, num_tasks: int, seed: int, device: torch.device) -> None:
        self.method, self._seed = method, seed
        self.state = {name: t.to(device) for name, t in method.initial_state(num_tasks).items()}
        self.cached = torch.ones(2, num_tasks, dtype=torch.float64, device=device)
        """[2, T] weights and coefficients of the last refresh, 1 before the first; reused until
        the next one. A checkpoint holds them."""

    def weigh(
        self,
        step: int,
        labelled: Tensor,
        losses: Tensor | None = None,
        gram: Tensor | None = None,
        layer_grams: Tensor | None = None,
    ) -> Weighed:
        """Ask the method; the arguments are those of `Evidence`, finite or not.

        Raises:
            UserError: the method's answer does not have the names and shapes that it declares.
        """
        known = {"losses": losses, "gram": gram, "layer_grams": layer_grams}
        read = {n: t for n, t in known.items() if n in self.method.needs and t is not None}
        assert read.keys() == self.method.needs, "the step computes what the method needs"
        finite = torch.stack([t.isfinite().all() for t in (labelled, *read.values())]).all()
        clean = {name: torch.where(finite, t.double(), 0.0) for name, t in read.items()}
        evidence = Evidence(step, self._seed, labelled, **clean)
        weighting, next_state = self.method.weigh_tasks(evidence, self.state)
        _refuse_other_shapes(self.method, self.state, weighting, next_state, len(labelled))
        packed = torch.cat([weighting.weights, weighting.coefficients, finite.double()[None]])
        if read:  # without evidence there is nothing that workers could see differently
            # Methods jump where a product changes its sign, and workers on other processors round
            # otherwise: rank 0's numbers are everyone's.
            packed = broadcast_from_first(packed)
        finite = packed.isfinite().all() & (packed[-1] > 0)
        weights, coefficients = torch.where(finite, packed[:-1], 0.0).chunk(2)
        weighting = TaskWeighting(coefficients, weights, weighting.diagnostics)
        reusable = None
        if gram is not None:
            # A task without labels, or a step without products, says nothing new.
            reusable = weighting.coefficients.any() & (gram.diagonal() > 0)
        return Weighed(weighting, finite, gram, next_state, reusable)

    def weigh_as_before(self) -> Weighed:
        """The cached weights."""
        weights, coefficients = self.cached.clone()
        weighting = TaskWeighting(coefficients=coefficients, weights=weights)
        return Weighed(weighting, torch.ones_like(weights[0], dtype=torch.bool))

    def commit(self, weighed: Weighed, skip: Tensor) -> None:
        """Remember what a step made, unless `skip` [] says that it is not taken."""
        if weighed.reusable is not None:
            newest = torch.stack([weighed.weighting.weights, weighed.weighting.coefficients])
            keep = skip | ~weighed.reusable
            self.cached.copy_(torch.where(keep, self.cached, newest))
        for name, value in (weighed.next_state or {}).items():
            self.state[name].copy_(torch.where(skip, self.state[name], value))

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint holds, by name; loading writes it in place."""
        return {f"method.{name}": tensor for name, tensor in self.state.items()} | {
            "cached_weights_and_coefficients": self.cached
        }


def _refuse_other_shapes(
    method: Method,
    state: MethodState,
    weighting: TaskWeighting,
    next_state: MethodState,
    num_tasks: int,
) -> None:
    """Raises UserError for an answer that would be broadcast, left out or mixed up further on.

    Shapes are known on the host, so nothing waits for the device.
    """
    fields = {"coefficients": weighting.coefficients, "weights": weighting.weights}
    per_task: tuple[int, ...] = (num_tasks,)
    declared = {d.name: per_task if d.per_task else () for d in method.diagnostics}
    for part, tensors, expected in (
        ("field", fields, dict.fromkeys(fields, per_task)),
        ("diagnostic", weighting.diagnostics, declared),
        ("state", next_state, {name: tuple(tensor.shape) for name, tensor in state.items()}),
    ):
        given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        for name in {**expected, **given}:
            if given.get(name) != expected.get(name):
                raise UserError(
                    f"method {method.name!r} returned the {part} {name!r} as "
                    f"{_spelled(given.get(name))} and declares {_spelled(expected.get(name))}, "
                    f"for {num_tasks} tasks; have it return what it declares"
                )


def _spelled(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else f"a tensor of shape {list(shape)}"
