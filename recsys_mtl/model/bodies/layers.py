"""Parts that several bodies are made of."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from torch import nn


def linear_layers(widths: Sequence[int]) -> list[nn.Linear]:
    """One linear layer between each two neighbouring widths, with torch's initial parameters."""
    return [nn.Linear(a, b) for a, b in pairwise(widths)]


def head(input_width: int, hidden_sizes: Sequence[int]) -> nn.Sequential:
    """One task's own small network, from what tasks share to its logit [B, 1]."""
    widths = (input_width, *hidden_sizes)
    layers: list[nn.Module] = []
    for layer in linear_layers(widths):
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


def named(prefix: str, parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    """Parameters by their full names: `prefix` before each name."""
    return {f"{prefix}.{name}": parameter for name, parameter in parameters}


def parameters_in(layers: Mapping[str, Mapping[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    """The parameters of all layers, by name."""
    return {name: parameter for layer in layers.values() for name, parameter in layer.items()}
