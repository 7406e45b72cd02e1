"""Comparisons of scores, held to scipy's tests, to hand-made numbers and to the papers' tables."""

import math
import secrets

import numpy as np
import pytest
from scipy import stats

from recsys_mtl.metrics.comparison import (
    delta_m,
    holm,
    mean_ranks,
    paired_difference,
    pareto_set,
)

# Zhu et al. 2025, Table 1: test AUC of income, marital and education, and what follows from them.
TABLE_1 = {
    "single-task": ((0.9454, 0.9817, 0.8875), 0.00, 4.33),
    "uniform": ((0.9407, 0.9763, 0.8829), 0.52, 14.00),
    "GradNorm": ((0.9435, 0.9829, 0.8873), 0.03, 6.00),
    "PCGrad": ((0.9428, 0.9812, 0.8856), 0.18, 11.67),
    "GradVac": ((0.9436, 0.9798, 0.8856), 0.20, 10.67),
    "MGDA-UB": ((0.9460, 0.9833, 0.8870), -0.06, 3.00),
    "CAGrad": ((0.9444, 0.9820, 0.8863), 0.07, 7.00),
    "GradOPS 0": ((0.9436, 0.9817, 0.8861), 0.12, 9.33),
    "GradOPS -3": ((0.9459, 0.9854, 0.8876), -0.15, 1.33),
}


@pytest.fixture
def rng() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def test_the_paired_difference_is_scipy_s(rng: np.random.Generator) -> None:
    for pairs in (2, 3, 20):
        ours, others = rng.normal(0.8, 0.01, (2, pairs))
        found = paired_difference(ours.tolist(), others.tolist())
        judge = stats.ttest_rel(ours, others)
        interval = judge.confidence_interval(0.95)
        assert found.mean == pytest.approx((ours - others).mean())
        assert (found.lower, found.upper) == pytest.approx((interval.low, interval.high))
        assert found.p_value == pytest.approx(judge.pvalue)
        assert found.pairs == pairs


def test_the_docstring_s_difference_by_hand() -> None:
    found = paired_difference([3.0, 4.0, 5.0], [1.0, 3.0, 2.0])
    assert found.mean == 2.0
    assert found.upper - found.mean == pytest.approx(4.302653 / math.sqrt(3))  # t(2) at 97.5 %


def test_one_pair_has_a_difference_and_no_interval_and_unknown_pairs_are_left_out() -> None:
    found = paired_difference([0.8, math.nan, 0.7], [0.7, 0.6, math.nan])
    assert (found.mean, found.pairs) == (pytest.approx(0.1), 1)
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)
    assert math.isnan(found.p_value)
    none = paired_difference([], [])
    assert none.pairs == 0
    assert math.isnan(none.mean)


def test_differences_without_scatter_are_certain() -> None:
    same = paired_difference([0.5, 0.75], [0.5, 0.75])
    assert (same.lower, same.upper, same.p_value) == (0.0, 0.0, 1.0)
    shifted = paired_difference([0.75, 1.0], [0.5, 0.75])
    assert (shifted.lower, shifted.upper, shifted.p_value) == (0.25, 0.25, 0.0)


def test_series_of_other_lengths_are_not_paired() -> None:
    with pytest.raises(ValueError, match="2 scores cannot be paired with 1"):
        paired_difference([0.1, 0.2], [0.1])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    first, unknown, last = holm([0.02, math.nan, 0.01])
    assert (first, last) == (pytest.approx(0.04), pytest.approx(0.03))
    assert math.isnan(unknown)


def test_holm_rejects_what_the_sequential_procedure_rejects(rng: np.random.Generator) -> None:
    for _ in range(50):
        p_values = rng.uniform(0, 0.1, rng.integers(1, 7)).tolist()
        rejected = set[int]()
        for rank, place in enumerate(np.argsort(p_values)):
            if p_values[place] > 0.05 / (len(p_values) - rank):
                break
            rejected.add(int(place))
        assert {k for k, p in enumerate(holm(p_values)) if p <= 0.05} == rejected


def test_delta_m_is_that_of_the_paper_s_table() -> None:
    single = TABLE_1["single-task"][0]
    for scores, expected, _ in TABLE_1.values():
        assert delta_m(scores, single) == pytest.approx(expected, abs=0.011)  # of rounded AUCs
    assert delta_m([0.72, 0.81], [0.8, 0.9]) == pytest.approx(10.0)
    assert math.isnan(delta_m([0.7, math.nan], [0.7, 0.7]))


def test_mean_ranks_by_hand_and_by_scipy(rng: np.random.Generator) -> None:
    assert mean_ranks([[0.8], [0.7], [0.7]]) == [1.0, 2.5, 2.5]
    assert mean_ranks([]) == []
    scores = rng.integers(0, 5, (7, 3)) / 10  # with ties
    expected = stats.rankdata(-scores, axis=0).mean(axis=1)
    assert mean_ranks(scores.tolist()) == pytest.approx(expected.tolist())


def test_an_arm_without_a_score_has_no_rank_and_no_part_in_the_others() -> None:
    first, second, third = mean_ranks([[0.9, 0.5], [math.nan, 0.9], [0.8, 0.7]])
    assert (first, third) == (2.0, 2.0)
    assert math.isnan(second)


def test_the_pareto_set_is_what_no_other_beats(rng: np.random.Generator) -> None:
    assert pareto_set([[0.8, 0.6], [0.7, 0.7], [0.7, 0.6]]) == [True, True, False]
    assert pareto_set([[0.5, 0.5], [0.5, 0.5]]) == [True, True], "equal arms beat no one"
    assert pareto_set([]) == []
    assert pareto_set([[0.9, math.nan], [0.1, 0.1]]) == [False, True]
    scores = rng.integers(0, 4, (12, 3))
    for kept, ours in zip(pareto_set(scores.tolist()), scores, strict=True):
        beaten = any(all(o >= s for o, s in zip(other, ours, strict=True)) and (other > ours).any()
                     for other in scores)  # fmt: skip
        assert kept is not beaten
