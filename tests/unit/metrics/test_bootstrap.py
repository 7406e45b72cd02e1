"""The Poisson bootstrap: its counts, its replicates against scikit-learn, and how sums merge."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from recsys_mtl.metrics.bootstrap import drop_sums, poisson_counts
from recsys_mtl.metrics.scored_rows import ScoredBlock, pairs
from tests.unit.metrics.scored_logs import spill
from tests.unit.metrics.two_models import draw_two_models, drop_by_scikit_learn


@pytest.fixture
def rng() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def test_counts_are_poisson_and_independent() -> None:
    keys = np.random.default_rng(1).integers(0, 2**64, 20_000, np.uint64)
    counts = poisson_counts(keys, 7, 64)
    assert counts.shape == (64, 20_000)
    shares = np.bincount(counts.ravel().astype(int))[:5] / counts.size
    np.testing.assert_allclose(shares, np.exp(-1) / np.array([1, 1, 2, 6, 24]), atol=0.002)
    assert counts.mean() == pytest.approx(1, abs=0.005)
    assert counts.var() == pytest.approx(1, abs=0.01)
    of_replicates = np.corrcoef(counts) - np.eye(64)
    assert abs(of_replicates).max() < 0.04
    of_groups = np.corrcoef(counts[:, :200].T) - np.eye(200)
    assert of_groups.std() == pytest.approx(1 / 8, abs=0.01)


def test_a_groups_counts_follow_from_its_key_and_the_seed_alone() -> None:
    keys = np.random.default_rng(2).integers(0, 2**64, 50, np.uint64)
    counts = poisson_counts(keys, 7, 16)
    np.testing.assert_array_equal(counts[:, ::-1], poisson_counts(keys[::-1], 7, 16))
    np.testing.assert_array_equal(counts[:8], poisson_counts(keys, 7, 8))
    assert (counts != poisson_counts(keys, 8, 16)).mean() > 0.5


def test_the_first_row_holds_the_drop_itself(rng: np.random.Generator) -> None:
    log = draw_two_models(rng, 300, error_of_new=1.0)
    sums, _ = drop_sums(lambda: [log], 1, seed=1, replicates=4)
    of_positives, positives, of_negatives, negatives = sums[0, 0].tolist()
    theirs = drop_by_scikit_learn(log)
    assert of_positives / positives == pytest.approx(theirs, abs=5e-5)
    assert of_negatives / negatives == pytest.approx(theirs, abs=5e-5)
    assert (positives, negatives) == (log.labels.sum(), (~log.labels).sum())


def test_replicates_are_weighted_aucs_of_scikit_learn(rng: np.random.Generator) -> None:
    """What linearising leaves out is less than a hundredth of the variance: 0.004 in 15 draws."""
    log = draw_two_models(rng, 500)
    sums = drop_sums(lambda: [log], 1, seed=3, replicates=200)[0][:, 0].numpy()
    ours = sums[1:, 0] / sums[1:, 1] + sums[1:, 2] / sums[1:, 3] - sums[0, 0] / sums[0, 1]
    keys, groups = np.unique(log.keys, return_inverse=True)
    counts = poisson_counts(keys, 3, 200)
    theirs = np.array([drop_by_scikit_learn(log, row[groups]) for row in counts])
    assert np.var(ours - theirs) < 0.01 * np.var(theirs)


def test_neither_order_nor_blocks_nor_workers_matter(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    log = draw_two_models(rng, 400)
    order = rng.permutation(len(log.keys))
    shuffled = ScoredBlock(*(column[order] for column in log))
    expected = drop_sums(lambda: [log], 1, seed=5, replicates=16)
    new, other = (
        spill(tmp_path / str(model), shuffled._replace(logits=shuffled.logits[:, [model]]))
        for model in range(2)
    )
    on_disk = drop_sums(lambda: pairs(new, other), 1, seed=5, replicates=16)
    for ours, theirs in zip(on_disk, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_workers_that_each_hold_some_groups_get_the_sums_of_one(rng: np.random.Generator) -> None:
    log = draw_two_models(rng, 400)
    mine = log.keys % np.uint64(3) == 0
    shares = [ScoredBlock(*(column[part] for column in log)) for part in (mine, ~mine)]
    given: list[Tensor] = []
    barrier = threading.Barrier(2)

    def all_reduce(sums: Tensor) -> Tensor:
        given.append(sums)
        barrier.wait(60)
        total = given[-2] + given[-1]
        barrier.wait(60)
        return total

    def work(share: ScoredBlock) -> tuple[Tensor, Tensor]:
        return drop_sums(lambda: [share], 1, seed=5, replicates=16, reduce=all_reduce)

    with ThreadPoolExecutor(2) as workers:
        results = list(workers.map(work, shares))
    expected = drop_sums(lambda: [log], 1, seed=5, replicates=16)
    for result in results:
        for ours, theirs in zip(result, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
