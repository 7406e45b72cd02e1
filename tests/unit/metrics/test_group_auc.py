"""GAUC against a pandas group-by with scikit-learn, and how its sums merge."""

import secrets
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from recsys_mtl.metrics import scored_rows
from recsys_mtl.metrics.group_auc import GroupAuc, group_auc_sums, summarise_group_auc
from recsys_mtl.metrics.scored_rows import ScoredBlock, ScoredRows
from tests.unit.metrics.scored_logs import draw_log, mixed, spill


@pytest.fixture
def rng() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def by_pandas(log: ScoredBlock, task: int) -> tuple[float, float, int, int, int]:
    """GAUC, impressions, groups, groups of one class and their rows."""
    frame = pd.DataFrame(
        {
            "group": log.keys,
            "logit": log.logits[:, 0, task].astype(np.float64),
            "label": log.labels[:, task],
            "weight": log.weights[:, task].astype(np.float64),
        }
    )
    groups = [rows for _, rows in frame[frame.weight > 0].groupby("group")]
    ranked = [rows for rows in groups if rows.label.nunique() == 2]
    aucs = [roc_auc_score(rows.label, rows.logit, sample_weight=rows.weight) for rows in ranked]
    impressions = [rows.weight.sum() for rows in ranked]
    left_out = len(groups) - len(ranked)
    rows_left_out = sum(map(len, groups)) - sum(map(len, ranked))
    gauc = float(np.average(aucs, weights=impressions))
    return gauc, sum(impressions), len(ranked), left_out, rows_left_out


def ours(rows: ScoredRows) -> list[GroupAuc]:
    return summarise_group_auc(group_auc_sums(rows))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_gauc_equals_a_pandas_group_by(
    tmp_path: Path, rng: np.random.Generator, weighted: bool, decimals: int
) -> None:
    log = draw_log(rng, 1_000, 220, weighted=weighted, decimals=decimals)
    for task, result in enumerate(ours(spill(tmp_path / "rows", log))):
        gauc, *counts = by_pandas(log, task)
        assert result.gauc == pytest.approx(gauc, abs=1e-12)
        assert [
            result.impressions,
            result.groups,
            result.groups_of_one_class,
            result.rows_of_one_class,
        ] == counts


def test_weights_of_1_to_3_equal_rows_repeated_so_often(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    log = draw_log(rng, 2_000, 300, num_tasks=1, weighted=True)
    times = log.weights[:, 0].astype(np.int64)
    repeated = ScoredBlock(*(column.repeat(times, axis=0) for column in log))
    repeated = repeated._replace(weights=np.ones_like(repeated.weights))
    weighted, plain = ours(spill(tmp_path / "a", log)), ours(spill(tmp_path / "b", repeated))
    assert weighted[0].gauc == pytest.approx(plain[0].gauc, abs=1e-12)
    assert weighted[0].impressions == plain[0].impressions


def test_sums_of_disjoint_groups_add_up_to_the_sums_of_all(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    log = draw_log(rng, 3_000, 500)
    mine = log.keys % np.uint64(3) == 0
    shares = [ScoredBlock(*(column[part] for column in log)) for part in (mine, ~mine)]
    of_shares = [
        group_auc_sums(spill(tmp_path / str(number), share)) for number, share in enumerate(shares)
    ]
    of_all = group_auc_sums(spill(tmp_path / "all", log))
    np.testing.assert_allclose(of_shares[0] + of_shares[1], of_all, rtol=1e-12)


def test_order_of_rows_does_not_matter(tmp_path: Path, rng: np.random.Generator) -> None:
    log = draw_log(rng, 2_000, 300, weighted=True)
    order = rng.permutation(len(log.keys))
    shuffled = ScoredBlock(*(column[order] for column in log))
    a, b = ours(spill(tmp_path / "a", log)), ours(spill(tmp_path / "b", shuffled))
    assert [result.gauc for result in a] == pytest.approx([r.gauc for r in b], abs=1e-12)


def test_logits_that_are_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    logits = np.array([2.0, 1.0, np.nan, 1.0, -np.inf], np.float32).reshape(-1, 1, 1)
    labels = np.array([[1], [0], [1], [1], [0]])
    rows = ScoredRows(tmp_path / "rows", 1)
    rows.append(np.full(5, 3, np.uint64), logits, labels, np.ones((5, 1)))
    assert ours(rows) == [GroupAuc(0.75, 3.0, 1, 0, 0, 2)]


def test_equal_zeros_of_either_sign_tie(tmp_path: Path) -> None:
    rows = ScoredRows(tmp_path / "rows", 1)
    logits = np.array([0.0, -0.0], np.float32).reshape(-1, 1, 1)
    rows.append(np.zeros(2, np.uint64), logits, np.array([[1], [0]]), np.ones((2, 1)))
    assert ours(rows)[0].gauc == 0.5


def test_without_a_group_of_both_classes_gauc_is_nan_and_without_rows_too(tmp_path: Path) -> None:
    rows = ScoredRows(tmp_path / "rows", 2)
    empty = group_auc_sums(rows)
    assert empty.shape == (2, 6)
    assert not empty.any()
    keys = mixed(np.arange(4))
    rows.append(keys, np.zeros((4, 1, 2), np.float32), np.eye(4, 2), np.tile([1.0, 0.0], (4, 1)))
    one_class, unlabelled = ours(rows)
    assert np.isnan([one_class.gauc, unlabelled.gauc]).all()
    assert (one_class.groups_of_one_class, one_class.rows_of_one_class) == (4, 4)
    assert (unlabelled.groups_of_one_class, unlabelled.impressions) == (0, 0.0)


def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows take 35 MB on disk. NumPy's arrays are counted, and nothing of other tests."""
    monkeypatch.setattr(scored_rows, "BUFFER_BYTES", 2 << 20)
    tracemalloc.start()
    rows = ScoredRows(tmp_path / "rows", 3)
    for _ in range(100):
        keys = mixed(rng.integers(0, 400_000, 10_000))
        logits = rng.normal(size=(10_000, 1, 3)).astype(np.float32)
        rows.append(keys, logits, rng.random((10_000, 3)) < 0.2, np.ones((10_000, 3)))
    results = ours(rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    assert all(result.impressions > 450_000 for result in results)
