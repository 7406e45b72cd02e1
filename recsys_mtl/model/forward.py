"""One forward of a body, cut at the representation, and the backward of each loss down to the cut.

Backwards above the representation are cheap and one per task; below it they are the price of
comparing the tasks' gradients, so the step decides how many there are.

B batch rows, E columns of all pooled embeddings, F dense inputs, T tasks.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.model.bodies.contract import BodyInputs, DropoutMasks, MultiTaskBody
from recsys_mtl.model.ownership import Ownership
from recsys_mtl.model.trunk import PartGradients, Trunk


@dataclass(frozen=True, eq=False)
class TaskGradients:
    """One loss's gradients of all that lies above the representation, and of the representation."""

    representation: PartGradients
    """One per part; None where the loss does not read it, or nothing below needs it."""
    task_specific: Mapping[str, Tensor]
    """The gradients of the task's own parameters, by name."""
    shared_above: Mapping[str, Tensor]
    """Those of the shared parameters above the representation that the loss reaches, by name."""


@dataclass(frozen=True, eq=False)
class Forward:
    """One forward of a body, for any number of backwards."""

    body: MultiTaskBody
    ownership: Ownership
    trunk: Trunk
    cut: tuple[Tensor, ...]
    """The representation cut off from the trunk; the graph of `task_logits` begins here."""
    task_logits: tuple[Tensor, ...]
    """[B] per task, in the precision of the products."""
    logits: Tensor
    """[B, T] float32: the same, cut off; the graph of the losses begins here."""

    def backward_to_representation(self, losses: Tensor) -> list[TaskGradients]:
        """Every task's loss back to where tasks part.

        Args:
            losses: [T], each from its own column of `logits`.
        """
        # One graph from losses to parts would take every task's backward through the heads of all,
        # with zeros in those of the others: twice the time where three tasks have layers of theirs.
        (at_logits,) = torch.autograd.grad(losses.sum(), self.logits, retain_graph=True)
        shared = self.body.shared_parameters()
        above = {name: shared[name] for name in self.ownership.above}
        return [
            self._backward(logits, gradient, self.body.task_parameters(task), above)
            for task, (logits, gradient) in enumerate(
                zip(self.task_logits, at_logits.unbind(dim=1), strict=True)
            )
        ]

    def _backward(
        self,
        logits: Tensor,
        gradient: Tensor,
        own: Mapping[str, Tensor],
        above: Mapping[str, Tensor],
    ) -> TaskGradients:
        parts = [part for part in self.cut if part.requires_grad]
        found = torch.autograd.grad(
            logits,
            [*parts, *own.values(), *above.values()],
            gradient,
            retain_graph=True,
            allow_unused=True,
        )
        of_parts = iter(found[: len(parts)])
        of_own, of_above = found[len(parts) :][: len(own)], found[len(parts) + len(own) :]
        return TaskGradients(
            representation=tuple(
                next(of_parts) if part.requires_grad else None for part in self.cut
            ),
            task_specific={
                name: torch.zeros_like(parameter) if gradient is None else gradient
                for (name, parameter), gradient in zip(own.items(), of_own, strict=True)
            },
            shared_above={n: g for n, g in zip(above, of_above, strict=True) if g is not None},
        )


def run_forward(
    body: MultiTaskBody,
    ownership: Ownership,
    pooled: Tensor,
    dense: Tensor,
    masks: DropoutMasks,
    *,
    num_tasks: int,
    precision: torch.dtype,
) -> Forward:
    """A body on a batch: products in `precision`, logits in float32.

    Args:
        pooled: [B, E] pooled embeddings; whatever graph they have is left out.
        dense: [B, F]
    """
    leaf = pooled.detach()
    if leaf.shape[1] and torch.is_grad_enabled():
        leaf.requires_grad_()
    lower = precision != torch.float32
    with torch.autocast(dense.device.type, dtype=precision) if lower else nullcontext():
        trunk = body.trunk(BodyInputs(leaf, dense), masks)
        cut = tuple(
            part.detach().requires_grad_(part.requires_grad) for part in trunk.representation
        )
        task_logits = tuple(body.logits(cut, task, masks) for task in range(num_tasks))
    logits = torch.stack([logits.detach() for logits in task_logits], dim=1).float()
    if torch.is_grad_enabled():
        logits.requires_grad_()
    return Forward(body, ownership, trunk, cut, task_logits, logits)
