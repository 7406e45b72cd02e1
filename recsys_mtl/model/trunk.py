"""The part of a body below the representation, for one batch: one forward, any number of backwards.

A backward takes gradients of the representation down to the parameters and to a stem, from which
the gradient of the pooled embeddings follows by a linear map. For most bodies the stem is that
gradient itself. Where tables move by a combination of the tasks' gradients, the stems are combined
first and mapped once, so a body whose first layer is large saves the product with its weight.

B batch rows, E columns of all pooled embeddings, T tasks.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

PartGradients = tuple[Tensor | None, ...]
"""A loss's gradient of each part of the representation; None where the loss does not read it."""


class Trunk(Protocol):
    """The graph from the inputs to the representation."""

    @property
    def representation(self) -> tuple[Tensor, ...]:
        """The parts [B, ...] at which tasks part, with their graph."""

    def backward(
        self, part_gradients: PartGradients, parameter_gradients: Mapping[str, Tensor] | None
    ) -> Tensor:
        """One gradient of the representation back to the parameters and the stem.

        Args:
            part_gradients: one per part of the representation.
            parameter_gradients: by name, of each parameter in the trunk: overwritten. None
                computes none of them.

        Returns:
            The stem's gradient, [B, columns].
        """

    def pooled_gradient(self, stem_gradient: Tensor) -> Tensor:
        """[B, E] The gradient of the pooled embeddings that belongs to a stem's gradient."""


class AutogradTrunk:
    """Any trunk, by autograd. Its stem is the pooled embeddings."""

    def __init__(
        self,
        representation: tuple[Tensor, ...],
        pooled: Tensor,
        parameters: Mapping[str, torch.nn.Parameter],
    ) -> None:
        """Keep a forward.

        Args:
            representation: with its graph; a part may be `pooled` itself.
            pooled: [B, E] the leaf of the graph.
            parameters: every shared parameter; those that the graph does not reach are left out.
        """
        self.representation = representation
        self._pooled, self._parameters = pooled, parameters

    def backward(
        self, part_gradients: PartGradients, parameter_gradients: Mapping[str, Tensor] | None
    ) -> Tensor:
        """See `Trunk.backward`."""
        # autograd refuses an output without a graph (a part that is a dense input) and a gradient
        # that is None (a part that the loss does not read).
        reached = [
            (part, gradient)
            for part, gradient in zip(self.representation, part_gradients, strict=True)
            if gradient is not None and part.requires_grad
        ]
        wanted = {} if parameter_gradients is None else parameter_gradients
        leaves: list[Tensor] = [self._parameters[name] for name in wanted]
        leaves += [self._pooled] if self._pooled.requires_grad else []
        found: list[Tensor | None] = [None] * len(leaves)
        if reached and leaves:
            parts, gradients = zip(*reached, strict=True)
            found = list(
                torch.autograd.grad(parts, leaves, gradients, retain_graph=True, allow_unused=True)
            )
        for place, gradient in zip(wanted.values(), found, strict=False):
            if gradient is None:
                place.zero_()
            else:
                place.copy_(gradient)
        stem = found[-1] if self._pooled.requires_grad else None
        return torch.zeros_like(self._pooled) if stem is None else stem

    def pooled_gradient(self, stem_gradient: Tensor) -> Tensor:
        """See `Trunk.pooled_gradient`."""
        return stem_gradient
