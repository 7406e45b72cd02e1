"""Networks of equal shape that read one input, in batched products."""

# B batch rows, I input columns, N experts, H units of an expert's last layer

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.contract import DropoutMasks, drop_out


class Experts(nn.Module):
    """N experts, each linear layers with ReLU and dropout.

    All experts' weights of one depth are one parameter, `<name>.<depth>.weight` [N, units, inputs]
    beside `.bias` [N, units], so that one batched product serves them all.
    """

    def __init__(self, name: str, count: int, widths: Sequence[int]) -> None:
        """Draw the initial parameters as torch draws those of a linear layer.

        Args:
            name: begins the names of parameters, layers and dropout sites.
            count: N.
            widths: I, then the units of each layer of an expert.
        """
        super().__init__()
        self._name = name
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, units in pairwise(widths):
            self.weights.append(_uniform((count, units, inputs), inputs))
            self.biases.append(_uniform((count, units), inputs))

    def forward(self, inputs: Tensor, masks: DropoutMasks) -> Tensor:
        """[B, N, H] Each expert's output for inputs [B, I]."""
        # The first layer reads one input for all experts: one product instead of N.
        first, *sites = self._layer_names()
        weight, bias = self.weights[0], self.biases[0]
        hidden = nn.functional.linear(inputs, weight.flatten(0, 1), bias.flatten())
        hidden = drop_out(torch.relu(hidden), masks, first).view(-1, *bias.shape)
        for depth, site in enumerate(sites, start=1):
            weight, bias = self.weights[depth], self.biases[depth]
            products = torch.bmm(hidden.transpose(0, 1), weight.transpose(1, 2)).transpose(0, 1)
            hidden = torch.relu(products + bias).flatten(1)
            hidden = drop_out(hidden, masks, site).view(-1, *bias.shape)
        return hidden

    def layers(self) -> dict[str, dict[str, nn.Parameter]]:
        """Each depth of all experts with its weight and its bias, by name."""
        pairs = zip(self._layer_names(), self.weights, self.biases, strict=True)
        return {
            layer: {f"{layer}.weight": weight, f"{layer}.bias": bias}
            for layer, weight, bias in pairs
        }

    def dropout_sites(self) -> dict[str, int]:
        """The output of each depth, all experts side by side; named as the layers are."""
        return {
            name: bias.numel() for name, bias in zip(self._layer_names(), self.biases, strict=True)
        }

    def input_weight(self) -> str:
        """The name of the weight that reads the experts' input."""
        return f"{self._layer_names()[0]}.weight"

    def _layer_names(self) -> list[str]:
        return [f"{self._name}.{depth}" for depth in range(len(self.weights))]


def mixture(scores: Tensor, experts: Tensor) -> Tensor:
    """[B, H] Experts' outputs [B, N, H], weighed row by row by the softmax of a gate's scores.

    Args:
        scores: [B, N]
        experts: [B, N, H]
    """
    shares = torch.softmax(scores, dim=1)
    return torch.einsum("bn,bnh->bh", shares.to(experts.dtype), experts)


def _uniform(size: tuple[int, ...], inputs: int) -> nn.Parameter:
    """Uniform in +-1 / sqrt(inputs), as torch initialises a linear layer."""
    bound = inputs**-0.5
    return nn.Parameter(torch.empty(size).uniform_(-bound, bound))
