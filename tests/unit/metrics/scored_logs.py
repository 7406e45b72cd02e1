"""Scored logs drawn at random, and spills of them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys_mtl.metrics.scored_rows import ScoredBlock, ScoredRows


def mixed(numbers: NDArray[np.integer]) -> NDArray[np.uint64]:
    """[n] Well-mixed bits of integers: splitmix64's finaliser."""
    z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def draw_log(
    rng: np.random.Generator,
    num_rows: int,
    num_groups: int,
    *,
    num_tasks: int = 2,
    decimals: int = 1,
    labelled: float = 0.9,
    weighted: bool = False,
) -> ScoredBlock:
    """Draws rows of groups of different sizes, whose few different logits (`decimals`) tie."""
    groups = (num_groups * rng.random(num_rows) ** 2).astype(np.int64)
    logits = rng.normal(-1.0, 1.0, (num_rows, 1, num_tasks)).round(decimals).astype(np.float32)
    labels = rng.random((num_rows, num_tasks)) < 1 / (1 + np.exp(-logits[:, 0]))
    weights = (rng.random((num_rows, num_tasks)) < labelled).astype(np.float32)
    if weighted:
        weights *= rng.integers(1, 4, weights.shape)
    return ScoredBlock(mixed(groups), logits, labels & (weights > 0), weights)


def spill(folder: Path, log: ScoredBlock, *, batch_rows: int = 1_000) -> ScoredRows:
    """Appends the rows of a log batch by batch."""
    rows = ScoredRows(folder, log.labels.shape[1], log.logits.shape[1])
    for start in range(0, len(log.keys), batch_rows):
        rows.append(*(column[start : start + batch_rows] for column in log))
    return rows
