"""The shared bottom and the heads: pooled embeddings and dense inputs to one logit a task.

B batch rows, H units of the bottom's last layer, T tasks.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from recsys_mtl.config import Model
from recsys_mtl.model.random import seeded_generator

_DROPOUT = 1  # separates these draws from the tables' initial rows


class SharedBottom(nn.Module):
    """Linear layers that all tasks share, each followed by ReLU and dropout."""

    def __init__(self, input_width: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in pairwise((input_width, *hidden_sizes))
        )

    def first(self, inputs: Tensor) -> Tensor:
        """[B, units] The first layer's pre-activation of `inputs` [B, input width]."""
        pre_activation: Tensor = self.layers[0](inputs)
        return pre_activation

    def rest(self, pre_activation: Tensor, dropout_masks: Sequence[Tensor] = ()) -> Tensor:
        """[B, H] The representation, from what `first` returned.

        Args:
            dropout_masks: one [B, units] a layer, 0 or 1 / (1 - dropout); none in evaluation.
        """
        hidden = pre_activation
        for depth, layer in enumerate(self.layers):
            hidden = torch.relu(layer(hidden) if depth else hidden)
            if dropout_masks:
                hidden = hidden * dropout_masks[depth]
        return hidden

    def forward(self, inputs: Tensor, dropout_masks: Sequence[Tensor] = ()) -> Tensor:
        """[B, H] The representation of `inputs` [B, input width]; masks as in `rest`."""
        return self.rest(self.first(inputs), dropout_masks)


class Heads(nn.Module):
    """One small network a task, from the shared representation to its logit."""

    def __init__(self, input_width: int, hidden_sizes: Sequence[int], num_tasks: int) -> None:
        super().__init__()
        self.towers = nn.ModuleList(_tower(input_width, hidden_sizes) for _ in range(num_tasks))

    def forward(self, representation: Tensor) -> Tensor:
        """[B, T] logits of `representation` [B, H]."""
        return torch.cat([tower(representation) for tower in self.towers], dim=1)


def build_dense_model(
    model: Model, input_width: int, num_tasks: int, seed: int
) -> tuple[SharedBottom, Heads]:
    """Bottom and heads with torch's initial parameters, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bottom = SharedBottom(input_width, model.bottom_hidden_sizes)
        heads = Heads(model.bottom_hidden_sizes[-1], model.head_hidden_sizes, num_tasks)
    return bottom, heads


def dropout_masks(
    model: Model, *, seed: int, step: int, lanes: Iterable[int], rows_per_lane: int, like: Tensor
) -> list[Tensor]:
    """One [B, units] mask a layer for the rows of `lanes`; empty without dropout.

    Drawn lane by lane from (seed, step, lane): the same for any number of workers, and again
    after a restart. `like` gives device and dtype.
    """
    if model.dropout == 0.0:
        return []
    sizes = model.bottom_hidden_sizes
    drawn = []
    for lane in lanes:
        generator = seeded_generator(seed, _DROPOUT, step, lane, device=like.device)
        drawn.append(torch.rand(rows_per_lane, sum(sizes), generator=generator, device=like.device))
    kept = (torch.cat(drawn) >= model.dropout).to(like.dtype) / (1 - model.dropout)
    return list(torch.split(kept, list(sizes), dim=1))


def _tower(input_width: int, hidden_sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise((input_width, *hidden_sizes)):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear((input_width, *hidden_sizes)[-1], 1))
