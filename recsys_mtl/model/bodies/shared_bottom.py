"""The shared bottom: linear layers that all tasks share, then one head per task.

Single layers may be task-specific: each task then has a copy of its own. Tasks part at the first of
them, so a shared layer above it runs once per task.

Source: Caruana, "Multitask Learning", 1997. Task-specific layers: Shi et al., "Recon: Reducing
Conflicting Gradients from the Root for Multi-Task Learning", ICLR 2023.
"""

# B batch rows, I input columns (E of pooled embeddings first), U units of the first layer,
# H units of the representation, T tasks

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.contract import (
    BodyInputs,
    BodyShape,
    DropoutMasks,
    MultiTaskBody,
    drop_out,
)
from recsys_mtl.model.bodies.layers import head, linear_layers, named
from recsys_mtl.model.trunk import PartGradients, Trunk


class SharedBottom(MultiTaskBody):
    """Linear layers that all tasks share, each followed by ReLU and dropout, and linear heads.

    Parameters are `bottom.layers.<depth>.weight` and `.bias`, of a task-specific layer
    `bottom.layers.<depth>.<task>.weight`, and `heads.<task>.<place>.weight`.
    """

    def __init__(
        self,
        shape: BodyShape,
        hidden_sizes: Sequence[int],
        head_hidden_sizes: Sequence[int] = (),
        task_specific_layers: Sequence[str] = (),
    ) -> None:
        """Draw the initial parameters.

        Args:
            hidden_sizes: units of each layer of the bottom.
            head_hidden_sizes: units of each hidden layer of a head.
            task_specific_layers: names of layers, `bottom.layers.<depth>`. The tasks' copies begin
                equal, as the shared layer would begin.
        """
        super().__init__()
        self._task_names, self._widths = shape.task_names, tuple(hidden_sizes)
        layers = linear_layers((shape.input_width, *hidden_sizes))
        self.heads = nn.ModuleList(
            head(hidden_sizes[-1], head_hidden_sizes) for _ in shape.task_names
        )
        self._own = [layer_name(depth) in task_specific_layers for depth in range(len(layers))]
        self._parting = self._own.index(True) if any(self._own) else len(layers)
        """Depth of the first layer above the representation."""
        self.layers = nn.ModuleList(
            nn.ModuleList(deepcopy(layer) for _ in shape.task_names) if own else layer
            for layer, own in zip(layers, self._own, strict=True)
        )

    def dropout_sites(self) -> dict[str, int]:
        """The output of each layer."""
        return {layer_name(depth): width for depth, width in enumerate(self._widths)}

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        """What enters the first task-specific layer or the heads, [B, H]; or the inputs."""
        if self._parting == 0:
            return tuple(inputs)
        return (self._rest(self.layers[0](torch.cat(inputs, dim=1)), masks),)

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        """See `MultiTaskBody.logits`."""
        hidden = torch.cat(representation, dim=1)
        for depth in range(self._parting, len(self.layers)):
            layer = self.layers[depth]
            if self._own[depth]:
                layer = layer[task]  # type: ignore[index]  # a list of one layer per task
            hidden = drop_out(torch.relu(layer(hidden)), masks, layer_name(depth))
        logits: Tensor = self.heads[task](hidden)
        return logits.squeeze(1)

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """The layers that are not task-specific."""
        parameters: dict[str, nn.Parameter] = {}
        for depth, layer in enumerate(self.layers):
            if not self._own[depth]:
                parameters |= named(layer_name(depth), layer.named_parameters())
        return parameters

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        """The task's copies of layers, and its head."""
        parameters: dict[str, nn.Parameter] = {}
        task_name = self._task_names[task]
        for depth, copies in enumerate(self.layers):
            if self._own[depth]:
                own = copies[task]  # type: ignore[index]
                parameters |= named(f"{layer_name(depth)}.{task_name}", own.named_parameters())
        return parameters | named(f"heads.{task_name}", self.heads[task].named_parameters())

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        """Each layer with its weight and bias."""
        names = [layer_name(d) for d, own in enumerate(self._own) if not own]
        return {name: (f"{name}.weight", f"{name}.bias") for name in names}

    def input_parameters(self) -> frozenset[str]:
        """The first layer's weight, or each task's."""
        first = layer_name(0)
        if not self._own[0]:
            return frozenset({f"{first}.weight"})
        return frozenset(f"{first}.{task}.weight" for task in self._task_names)

    def trunk(self, inputs: BodyInputs, masks: DropoutMasks) -> Trunk:
        """The layers below the first task-specific one."""
        if self._parting == 0:
            return super().trunk(inputs, masks)
        parameters = list(self.shared_parameters().items())[: 2 * self._parting]
        joined = torch.cat(inputs, dim=1).detach()
        with torch.no_grad():
            first = self.layers[0](joined)
        first.requires_grad_()
        return FirstLayerTrunk(
            joined, inputs.pooled.shape[1], first, self._rest(first, masks), dict(parameters)
        )

    def _rest(self, first: Tensor, masks: DropoutMasks) -> Tensor:
        """[B, H] The representation, from the first layer's pre-activation [B, U]."""
        hidden = drop_out(torch.relu(first), masks, layer_name(0))
        for depth in range(1, self._parting):
            hidden = drop_out(torch.relu(self.layers[depth](hidden)), masks, layer_name(depth))
        return hidden


def layer_name(depth: int) -> str:
    """The name of one layer of the bottom, as `model.task_specific_layers` takes it."""
    return f"bottom.layers.{depth}"


class FirstLayerTrunk:
    """A trunk whose first layer is linear; its stem is that layer's pre-activation.

    The first layer holds half of a backward: each task needs its weight gradient, but what goes on
    to the inputs is needed of the combination alone, where the tables are outside the Gram. So the
    graph ends at the pre-activation, and the layer's two products are written out here.
    """

    def __init__(
        self,
        inputs: Tensor,
        pooled_columns: int,
        first: Tensor,
        representation: Tensor,
        parameters: Mapping[str, nn.Parameter],
    ) -> None:
        """Keep a forward.

        Args:
            inputs: [B, I] without a graph.
            pooled_columns: E, the first of them.
            first: [B, U] the first layer's pre-activation; the graph begins here.
            representation: [B, H] with the graph of the layers above the first.
            parameters: by name; the first layer's weight and bias come first.
        """
        self.representation = (representation,)
        self._inputs, self._pooled_columns = inputs, pooled_columns
        self._first, self._parameters = first, list(parameters.items())

    def backward(
        self, part_gradients: PartGradients, parameter_gradients: Mapping[str, Tensor] | None
    ) -> Tensor:
        """See `Trunk.backward`; returns [B, U]."""
        (gradient,) = part_gradients
        assert gradient is not None, "every head reads the bottom's output"
        above = [] if parameter_gradients is None else self._parameters[2:]
        first, *others = torch.autograd.grad(
            self.representation, [self._first, *(p for _, p in above)], gradient, retain_graph=True
        )
        if parameter_gradients is not None:
            weight, bias = (parameter_gradients[name] for name, _ in self._parameters[:2])
            _multiply_into(weight, first.T, self._inputs.to(first.dtype))
            torch.sum(first, dim=0, dtype=bias.dtype, out=bias)
            for (name, _), other in zip(above, others, strict=True):
                parameter_gradients[name].copy_(other)
        return first

    def pooled_gradient(self, stem_gradient: Tensor) -> Tensor:
        """Multiply by the first layer's weight: [B, U] to the embeddings' gradient, [B, E]."""
        weight = self._parameters[0][1].detach()[:, : self._pooled_columns]
        return (stem_gradient @ weight.to(stem_gradient.dtype)).to(self._inputs.dtype)


def _multiply_into(place: Tensor, a: Tensor, b: Tensor) -> None:
    if place.dtype == a.dtype:
        torch.mm(a, b, out=place)
    else:
        place.copy_(a @ b)
