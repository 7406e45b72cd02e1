"""Placements: their means are scikit-learn's AUC, however the logits are spread."""

import secrets

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from recsys_mtl.metrics.placements import NUM_BINS, LogitBins, coarse_counts, placements
from recsys_mtl.metrics.scored_rows import ScoredBlock
from tests.unit.metrics.scored_logs import draw_log


@pytest.fixture
def rng() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def aucs(log: ScoredBlock) -> list[tuple[float, float]]:
    """Per task, the mean placement of the negatives and of the positives."""
    num_tasks = log.labels.shape[1]
    class_weights = LogitBins(coarse_counts([log], 1, num_tasks)).class_weights([log])
    means = (class_weights[0].numpy() * placements(class_weights)[0]).sum(axis=-1)
    return [tuple(row) for row in means / class_weights[0].numpy().sum(axis=-1)]


@pytest.mark.parametrize("spread", [1e-4, 0.01, 1.0, 30.0])
def test_their_mean_over_either_class_is_the_auc(rng: np.random.Generator, spread: float) -> None:
    log = draw_log(rng, 20_000, 10, decimals=6, weighted=True)
    log = log._replace(logits=log.logits * np.float32(spread) - np.float32(4))
    for task, means in enumerate(aucs(log)):
        theirs = roc_auc_score(
            log.labels[:, task], log.logits[:, 0, task], sample_weight=log.weights[:, task]
        )
        assert means == pytest.approx([theirs, theirs], abs=5e-5)


def test_a_few_rows_far_away_take_no_bins_from_the_others(rng: np.random.Generator) -> None:
    log = draw_log(rng, 20_000, 10, num_tasks=1, decimals=6)
    logits = log.logits * np.float32(0.001) + np.float32(2)
    logits[:20] = rng.normal(0, 1e6, (20, 1, 1))
    kept = log.weights[:, 0] > 0
    theirs = roc_auc_score(log.labels[kept, 0], logits[kept, 0, 0])
    assert aucs(log._replace(logits=logits))[0] == pytest.approx([theirs] * 2, abs=5e-5)


def test_equal_logits_count_half(rng: np.random.Generator) -> None:
    log = draw_log(rng, 500, 10)
    same = log._replace(logits=np.full_like(log.logits, -3.2))
    assert aucs(same) == [(0.5, 0.5)] * 2


def test_the_example_of_the_docstring() -> None:
    class_weights = torch.zeros(1, 1, 2, NUM_BINS, dtype=torch.float64)
    class_weights[0, 0, 0, :2] = 1
    class_weights[0, 0, 1, 1] = 1
    of_negative, of_positive = placements(class_weights)[0, 0]
    assert of_negative[:2].tolist() == [1.0, 0.5]
    assert of_positive[1] == 0.75


def test_bins_are_in_the_order_of_the_logits(rng: np.random.Generator) -> None:
    log = draw_log(rng, 30_000, 10, num_tasks=1, decimals=6, labelled=1.0)
    logits = np.sort(log.logits[:, 0, 0])
    bins = LogitBins(coarse_counts([log], 1, 1)).of(logits, 0, 0).astype(np.int64)
    assert (np.diff(bins) >= 0).all()
    assert bins.max() < NUM_BINS
    assert len(np.unique(bins)) > 10_000
