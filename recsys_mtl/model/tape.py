"""The dense model's forward, cut where the tasks' backwards share or part.

Backwards through the heads are cheap and one a task; through the bottom they are the price of
gradient surgery. The first layer holds half of it: each task needs its weight gradient, but what
goes on to the inputs is needed only of the combination, where the tables are outside the Gram.
So the graph is cut at the representation and at the first layer's pre-activation, and the first
layer's two products are written out here.

B batch rows, I input columns (E of pooled embeddings first), U units of the first layer, H units
of the representation, T tasks, P parameters of the bottom.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.model.shared_bottom import Heads, SharedBottom


@dataclass(frozen=True, eq=False)
class Tape:
    """One forward of bottom and heads, for any number of backwards."""

    bottom: SharedBottom
    heads: Heads
    inputs: Tensor
    """[B, I] without a graph."""
    first: Tensor
    """[B, U] the first layer's pre-activation; the graph of `representation` begins here."""
    representation: Tensor
    """[B, H] with the graph of the bottom above the first layer."""
    at_heads: Tensor
    """[B, H] the same; the graph of `logits` begins here."""
    logits: Tensor
    """[B, T]"""

    def through_heads(self, losses: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Every loss back to the representation.

        Args:
            losses: [T], from `logits`.

        Returns:
            [T, B, H] each loss's gradient for the representation, and the heads' gradients, each
            of its own loss, in the order of `heads.parameters()`.
        """
        deltas, private = [], list[Tensor]()
        for task, tower in enumerate(self.heads.towers):
            delta, *own = torch.autograd.grad(
                losses[task], [self.at_heads, *tower.parameters()], retain_graph=True
            )
            deltas.append(delta)
            private += own
        return torch.stack(deltas), private

    def through_bottom(self, delta: Tensor, gradients: list[Tensor] | None) -> Tensor:
        """One gradient for the representation back to the first layer.

        Args:
            delta: [B, H] gradient for `representation`.
            gradients: a tensor a parameter of the bottom, which are overwritten; None computes
                none of them.

        Returns:
            [B, U] the gradient for the first layer's pre-activation.
        """
        above = [] if gradients is None else list(self.bottom.parameters())[2:]
        first, *others = torch.autograd.grad(
            self.representation, [self.first, *above], delta, retain_graph=True
        )
        if gradients is not None:
            weight, bias, *rest = gradients
            _multiply_into(weight, first.T, self.inputs.to(first.dtype))
            torch.sum(first, dim=0, dtype=bias.dtype, out=bias)
            for place, gradient in zip(rest, others, strict=True):
                place.copy_(gradient)
        return first

    def to_embeddings(self, first: Tensor, width: int) -> Tensor:
        """[B, E] What a gradient [B, U] for the first layer is for the first `width` inputs."""
        weight = next(self.bottom.parameters()).detach()
        return (first @ weight[:, :width].to(first.dtype)).to(self.inputs.dtype)


def run_forward(
    bottom: SharedBottom, heads: Heads, inputs: Tensor, masks: list[Tensor], precision: torch.dtype
) -> Tape:
    """Bottom and heads on inputs [B, I], products in `precision`, logits in float32."""
    lower = precision != torch.float32
    with torch.autocast(inputs.device.type, dtype=precision) if lower else nullcontext():
        with torch.no_grad():
            first = bottom.first(inputs)
        first.requires_grad_()
        representation = bottom.rest(first, masks)
        at_heads = representation.detach().requires_grad_()
        logits = heads(at_heads).float()
    return Tape(bottom, heads, inputs.detach(), first, representation, at_heads, logits)


def _multiply_into(place: Tensor, a: Tensor, b: Tensor) -> None:
    if place.dtype == a.dtype:
        torch.mm(a, b, out=place)
    else:
        place.copy_(a @ b)
