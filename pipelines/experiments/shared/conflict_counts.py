"""How often tasks conflicted in each layer of a run, and in which layers most: Recon's scores."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np

from recsys_mtl.metrics.trace import read_trace

SEARCH_SHARE = 0.25
"""Of the run's steps, the first: those whose counts are the scores."""


def counting(threshold: float) -> str:
    """The setting with which a run counts conflicts at every step."""
    return f"recon={{threshold: {threshold:g}, search_share: 1}}"


@dataclass(frozen=True)
class Counts:
    """Pairs of tasks by layer of the bottom, in the order of the layers."""

    scores: dict[str, int]
    """Conflicting pairs in the first SEARCH_SHARE of the steps."""
    conflicting: dict[str, int]
    """Conflicting pairs in all steps."""
    compared: dict[str, int]
    """Pairs that could have conflicted, in all steps."""

    def ranking(self) -> list[str]:
        """The layers by their scores, the highest first; of equals, the one nearer to the heads."""
        from_the_heads = reversed(self.scores)
        return sorted(from_the_heads, key=lambda layer: -self.scores[layer])

    def share(self, layers: Iterable[str]) -> float:
        """The share of pairs that conflicted in these layers, over all steps."""
        known = [layer for layer in layers if layer in self.compared]
        compared = sum(self.compared[layer] for layer in known)
        return sum(self.conflicting[layer] for layer in known) / compared if compared else np.nan


def counts_of(cell: Mapping[str, Any]) -> Counts:
    """What the run of a sweep's cell has counted.

    Args:
        cell: one that is finished, whose run has the setting `counting`.
    """
    with fsspec.open(f"{cell['url']}/result.json") as file:
        counted = json.load(file)["recon"]
    layers = list(counted["layers"])
    names = [f"conflicting_pairs_{layer}" for layer in layers]
    trace = read_trace(f"{cell['url']}/trace", names)
    steps = max(1, round(SEARCH_SHARE * trace.num_rows))
    scores = {
        layer: int(np.nansum(trace[name].to_numpy()[:steps]))
        for layer, name in zip(layers, names, strict=True)
    }
    return Counts(scores, counted["layers"], counted["compared_pairs"]["layers"])


def counts_by_arm(found: Mapping[str, Any]) -> dict[str, dict[int, Counts]]:
    """Arm to seed to what its run has counted, of the cells that are finished."""
    counts: dict[str, dict[int, Counts]] = {}
    for cell in found["cells"]:
        of_arm = counts.setdefault(cell["arm"], {})
        if cell["status"] == "finished":
            of_arm[cell["seed"]] = counts_of(cell)
    return counts


def same_choice(ranking: Sequence[str], chosen: Sequence[str]) -> bool:
    """Whether the first layers of a ranking are the chosen ones, in whatever order."""
    return set(ranking[: len(chosen)]) == set(chosen)
