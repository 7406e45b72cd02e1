"""Logs scored by two models, and what scikit-learn makes of them."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from pipelines.experiments.gate_coverage import World, draw_log
from recsys_mtl.metrics.scored_rows import ScoredBlock


def draw_two_models(
    rng: np.random.Generator, num_users: int, *, error: float = 0.5, error_of_new: float = 0.5
) -> ScoredBlock:
    """Draws 5 rows per user on average. With equal errors neither model is better."""
    return draw_log(rng, World(num_users, 5, -1.5, error, error_of_new))


def drop_by_scikit_learn(log: ScoredBlock, weights: NDArray[np.floating] | None = None) -> float:
    new, other = (
        roc_auc_score(log.labels[:, 0], log.logits[:, model, 0], sample_weight=weights)
        for model in range(2)
    )
    return float(other - new)
