"""How many parameters a shared bottom has, and one with a given number of them."""

# I inputs, T tasks

from collections.abc import Collection, Sequence
from itertools import pairwise


def parameters(hidden_sizes: Sequence[int], own: Collection[int], inputs: int, tasks: int) -> int:
    """Weights and biases of a bottom and its linear heads.

    Args:
        hidden_sizes: units of each layer.
        own: depths of the layers of which every task has a copy.
        inputs: I, the columns that enter the first layer.
        tasks: T.
    """
    sizes = [(a + 1) * b for a, b in pairwise((inputs, *hidden_sizes))]
    bottom = sum(size * (tasks if depth in own else 1) for depth, size in enumerate(sizes))
    return bottom + tasks * (hidden_sizes[-1] + 1)


def inputs_of(shared: int, hidden_sizes: Sequence[int]) -> int:
    """The columns that enter a bottom that has so many parameters, all of them shared."""
    above = sum((a + 1) * b for a, b in pairwise(hidden_sizes))
    return (shared - above) // hidden_sizes[0] - 1


def wider(hidden_sizes: Sequence[int], wanted: float, inputs: int, tasks: int) -> list[int]:
    """The widths of a shared bottom with the wanted number of parameters, or hardly fewer.

    All widths grow, or shrink, by one factor.

    Args:
        wanted: with the linear heads.
        inputs, tasks: as of `parameters`.
    """

    def widths(factor: float) -> list[int]:
        return [max(1, round(factor * width)) for width in hidden_sizes]

    low, high = 0.0, 1.0
    while parameters(widths(high), (), inputs, tasks) <= wanted:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        if parameters(widths(middle), (), inputs, tasks) <= wanted:
            low = middle
        else:
            high = middle
    return widths(low)
