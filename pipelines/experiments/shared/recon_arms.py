"""The arms of the experiment on Recon: networks of which some layers belong to single tasks."""

import random
from collections.abc import Sequence
from itertools import combinations

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
