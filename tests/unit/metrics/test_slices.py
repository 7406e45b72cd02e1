"""Slices against scikit-learn on the rows of each value, in memory and streamed."""

import secrets
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score  # type: ignore[import-untyped]

from recsys_mtl.config import UserError
from recsys_mtl.metrics import scored_rows, slices
from recsys_mtl.metrics.scored_rows import ScoredBlock, ScoredRows
from recsys_mtl.metrics.slices import SliceOfTask, merged_slices, slice_metrics
from tests.unit.metrics.scored_logs import draw_log, mixed, spill


@pytest.fixture
def rng() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_each_slice_is_measured_as_scikit_learn_measures_its_rows(
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    weighted: bool,
    streamed: bool,
) -> None:
    if streamed:
        monkeypatch.setattr(scored_rows, "BLOCK_ROWS", 100)
    log = draw_log(rng, 3_000, 5, weighted=weighted)
    tables = slice_metrics(spill(tmp_path / "rows", log))
    assert tables.keys() == set(log.keys.tolist())
    for key, tasks in tables.items():
        for task, ours in enumerate(tasks):
            rows = (log.keys == key) & (log.weights[:, task] > 0)
            label, weight = log.labels[rows, task], log.weights[rows, task].astype(np.float64)
            probability = 1 / (1 + np.exp(-log.logits[rows, 0, task].astype(np.float64)))
            judged = {"sample_weight": weight}
            assert ours.auc == pytest.approx(roc_auc_score(label, probability, **judged), abs=1e-9)
            assert ours.log_loss == pytest.approx(log_loss(label, probability, **judged), abs=1e-9)
            assert ours.calibration == pytest.approx(
                (weight * probability).sum() / (weight * label).sum()
            )
            assert (ours.positives, ours.rows, ours.not_finite) == (label.sum(), rows.sum(), 0)


@pytest.mark.parametrize("streamed", [False, True])
def test_slices_without_positives_or_labels_and_logits_that_are_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    if streamed:
        monkeypatch.setattr(scored_rows, "BLOCK_ROWS", 1)
    logits = np.array([0.0, 0.0, np.nan, 3.0, 3.0], np.float32).reshape(-1, 1, 1)
    labels, weights = np.array([[0], [0], [1], [0], [0]]), np.array([[1], [1], [1], [0], [0]])
    rows = ScoredRows(tmp_path / "rows", 1)
    rows.append(np.array([7, 7, 7, 9, 9], np.uint64), logits, labels, weights)
    negatives, unlabelled = (tasks[0] for _, tasks in sorted(slice_metrics(rows).items()))
    nan = pytest.approx(np.nan, nan_ok=True)
    assert negatives == SliceOfTask(nan, pytest.approx(np.log(2)), nan, 0, 2, 1)
    assert unlabelled == SliceOfTask(nan, nan, nan, 0, 0, 0)


def test_extreme_logits_do_not_overflow(tmp_path: Path) -> None:
    rows = ScoredRows(tmp_path / "rows", 1)
    logits = np.array([1e4, -1e4], np.float32).reshape(-1, 1, 1)
    rows.append(np.zeros(2, np.uint64), logits, np.array([[0], [1]]), np.ones((2, 1)))
    assert slice_metrics(rows)[0] == [SliceOfTask(0.0, 1e4, 1.0, 1, 2, 0)]


def test_more_slices_than_a_table_should_have_are_refused(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MOST_SLICES", 30)
    few, many = draw_log(rng, 2_000, 30), draw_log(rng, 2_000, 31)
    table = slice_metrics(spill(tmp_path / "few", few))
    with pytest.raises(UserError, match="has more than 30 values; slice by one with fewer"):
        slice_metrics(spill(tmp_path / "many", many))
    with pytest.raises(UserError, match="has more than 30 values"):
        merged_slices([table, {int(mixed(np.array([99]))[0]): table.popitem()[1]}, {5: []}])


def test_workers_tables_are_put_together(tmp_path: Path, rng: np.random.Generator) -> None:
    log = draw_log(rng, 1_000, 10)
    mine = log.keys % np.uint64(2) == 0
    shares = [
        slice_metrics(spill(tmp_path / name, ScoredBlock(*(column[share] for column in log))))
        for name, share in (("mine", mine), ("theirs", ~mine))
    ]
    assert merged_slices(shares) == slice_metrics(spill(tmp_path / "all", log))
