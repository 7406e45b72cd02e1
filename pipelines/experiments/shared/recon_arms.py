"""The arms of the experiment on Recon: networks of which some layers belong to single tasks."""

import random
from collections.abc import Sequence
from itertools import combinations, pairwise

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.driver.sweep import Arm

RANDOM_SEED = 1


def with_own_layers(arm: Arm, layers: Sequence[str], suffix: str) -> Arm:
    """An arm with a copy of these layers for every task, as `pcgrad_recon`."""
    setting = f"model.task_specific_layers=[{', '.join(layers)}]"
    return Arm(f"{arm.name}_{suffix}", (*arm.overrides, setting))


def random_layers(all_layers: Sequence[str], but: Sequence[Sequence[str]]) -> list[str] | None:
    """As many layers as the first of `but` has, drawn at random; None where none are left.

    Args:
        but: choices that are compared with anyway, so that a network is not trained twice.
    """
    size, taken = len(but[0]), [set(layers) for layers in but]
    left = [list(c) for c in combinations(all_layers, size) if set(c) not in taken]
    return random.Random(RANDOM_SEED).choice(left) if left else None


def refuse_unusable(config: RunConfig, count: int) -> None:
    """Nothing, where so many layers of the bottom can become task-specific and others stay.

    Raises:
        UserError: they cannot; says why.
    """
    layers = config.model.bottom_layers
    if not 1 <= count < len(layers):
        raise UserError(
            f"--layers is {count}, and the bottom has {len(layers)}: {', '.join(layers)}; take at "
            "least 1, and leave one that tasks share"
        )


def wider(hidden_sizes: Sequence[int], own: Sequence[int], inputs: int, tasks: int) -> list[int]:
    """The widths of a shared bottom with as many parameters as one with task-specific layers.

    All widths grow by one factor, to the nearest number of parameters from below.

    Args:
        hidden_sizes: of the bottom whose layers are task-specific.
        own: depths of these layers.
        inputs: columns that enter the bottom.
        tasks: how many there are.
    """
    wanted = parameters(hidden_sizes, own, inputs, tasks)
    low, high = 1.0, float(tasks)  # each layer at most once per task
    for _ in range(50):
        middle = (low + high) / 2
        widths = [round(middle * width) for width in hidden_sizes]
        low, high = (
            (middle, high) if parameters(widths, (), inputs, tasks) <= wanted else (low, middle)
        )
    return [round(low * width) for width in hidden_sizes]


def parameters(hidden_sizes: Sequence[int], own: Sequence[int], inputs: int, tasks: int) -> int:
    """Parameters of a bottom, weights and biases, with linear heads; arguments as of `wider`."""
    widths = [inputs, *hidden_sizes]
    layers = [(a + 1) * b for a, b in pairwise(widths)]
    copies = [tasks if depth in own else 1 for depth in range(len(layers))]
    heads = tasks * (hidden_sizes[-1] + 1)
    return sum(size * count for size, count in zip(layers, copies, strict=True)) + heads


def inputs_of(shared: int, hidden_sizes: Sequence[int]) -> int:
    """The columns that enter a bottom with so many shared parameters, all layers being shared."""
    widths = list(hidden_sizes)
    above = sum((a + 1) * b for a, b in pairwise(widths))
    return (shared - above) // widths[0] - 1
