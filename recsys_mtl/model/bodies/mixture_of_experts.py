"""MMoE: experts that all tasks share, and one gate per task that weighs them for each row.

Source: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts", KDD 2018, Eq. 6-7. As there, a gate is a linear map of the inputs, without a
bias, followed by softmax.
"""

# B batch rows, I input columns, N experts, H units of an expert's last layer, T tasks

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.contract import (
    BodyInputs,
    BodyShape,
    DropoutMasks,
    MultiTaskBody,
    drop_out,
)
from recsys_mtl.model.bodies.layers import head, named


class MixtureOfExperts(MultiTaskBody):
    """Experts of equal shape, each linear layers with ReLU and dropout, then gates and heads.

    All experts' weights of one depth are one parameter, `experts.<depth>.weight` [N, units, inputs]
    beside `.bias` [N, units], so that one batched product serves them all. A task's own parameters
    are `gates.<task>.weight` [N, I] and `heads.<task>.<place>.weight`.
    """

    def __init__(
        self,
        shape: BodyShape,
        experts: int,
        expert_hidden_sizes: Sequence[int],
        head_hidden_sizes: Sequence[int] = (),
    ) -> None:
        """Draw the initial parameters as torch draws those of a linear layer.

        Args:
            experts: N.
            expert_hidden_sizes: units of each layer of an expert.
            head_hidden_sizes: units of each hidden layer of a head.
        """
        super().__init__()
        self._task_names = shape.task_names
        widths = (shape.input_width, *expert_hidden_sizes)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, units in pairwise(widths):
            self.weights.append(_uniform((experts, units, inputs), inputs))
            self.biases.append(_uniform((experts, units), inputs))
        self.gates = nn.ModuleList(
            nn.Linear(shape.input_width, experts, bias=False) for _ in shape.task_names
        )
        self.heads = nn.ModuleList(head(widths[-1], head_hidden_sizes) for _ in shape.task_names)

    def dropout_sites(self) -> dict[str, int]:
        """The output of each depth, all experts side by side."""
        return {
            layer_name(depth): bias.shape[0] * bias.shape[1]
            for depth, bias in enumerate(self.biases)
        }

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        """The experts' outputs [B, N, H], and the inputs, which the gates read."""
        joined = torch.cat(inputs, dim=1)
        # The first layer reads one input for all experts: one product instead of N.
        weight, bias = self.weights[0], self.biases[0]
        hidden = nn.functional.linear(joined, weight.flatten(0, 1), bias.flatten())
        hidden = drop_out(torch.relu(hidden), masks, layer_name(0)).view(-1, *bias.shape)
        for depth in range(1, len(self.weights)):
            weight, bias = self.weights[depth], self.biases[depth]
            products = torch.bmm(hidden.transpose(0, 1), weight.transpose(1, 2)).transpose(0, 1)
            hidden = torch.relu(products + bias).flatten(1)
            hidden = drop_out(hidden, masks, layer_name(depth)).view(-1, *bias.shape)
        return hidden, *inputs

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        """The head on the experts' outputs, weighed by the task's gate."""
        experts, *inputs = representation
        shares = torch.softmax(self.gates[task](torch.cat(inputs, dim=1)), dim=1)  # [B, N]
        mixed = torch.einsum("bn,bnh->bh", shares.to(experts.dtype), experts)
        logits: Tensor = self.heads[task](mixed)
        return logits.squeeze(1)

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Every expert's layers."""
        return {
            f"{layer_name(depth)}.{kind}": parameter
            for depth, pair in enumerate(zip(self.weights, self.biases, strict=True))
            for kind, parameter in zip(("weight", "bias"), pair, strict=True)
        }

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        """The task's gate and head."""
        name = self._task_names[task]
        return named(f"gates.{name}", self.gates[task].named_parameters()) | named(
            f"heads.{name}", self.heads[task].named_parameters()
        )

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        """Each depth with the weights and biases of all experts."""
        names = [layer_name(depth) for depth in range(len(self.weights))]
        return {name: (f"{name}.weight", f"{name}.bias") for name in names}

    def input_parameters(self) -> frozenset[str]:
        """The first weights of the experts, and the gates."""
        gates = (f"gates.{task}.weight" for task in self._task_names)
        return frozenset({f"{layer_name(0)}.weight", *gates})


def layer_name(depth: int) -> str:
    """The name of one depth of all experts."""
    return f"experts.{depth}"


def _uniform(size: tuple[int, ...], inputs: int) -> nn.Parameter:
    """Uniform in +-1 / sqrt(inputs), as torch initialises a linear layer."""
    bound = inputs**-0.5
    return nn.Parameter(torch.empty(size).uniform_(-bound, bound))
