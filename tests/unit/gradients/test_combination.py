"""How far one step moves: combinations, their norms, and what shortens them."""

import math

import pytest
import torch

from recsys_mtl.gradients import gradops_coefficients, gram_matrix
from recsys_mtl.gradients.combination import (
    cancels,
    clip_factor,
    combined_norm,
    descent_cosines,
    vector_norm,
    violates_non_conflict,
    weighted_sum,
)


def test_the_norm_of_a_combination_follows_from_the_gram() -> None:
    print("seed", torch.seed())
    gradients, coefficients = torch.randn(4, 30).double(), torch.randn(4).double()
    expected = (coefficients @ gradients).norm()
    torch.testing.assert_close(combined_norm(gram_matrix(gradients), coefficients), expected)


def test_what_is_short_beside_its_longest_term_cancels() -> None:
    sine = 1e-3
    unit = torch.tensor([[1.0, 0.0], [-((1 - sine**2) ** 0.5), sine]], dtype=torch.float64)
    lengths = torch.tensor([[2.0, 2.0], [2.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    correlation = unit @ unit.T
    assert cancels(correlation, lengths, zero_sine_squared=1e-5).tolist() == [True, False, True]
    assert cancels(correlation, lengths, zero_sine_squared=1e-7).tolist() == [False, False, True]


def test_gradients_that_cancel_have_norm_zero_and_not_the_root_of_a_rounding() -> None:
    gram = gram_matrix(torch.tensor([[0.1, 0.3], [-0.1, -0.3]]))
    assert combined_norm(gram, torch.ones(2, dtype=torch.float64)).item() == 0.0


def test_a_norm_is_summed_in_float64() -> None:
    assert vector_norm(torch.full((4,), 1e30)).item() == pytest.approx(2e30)


@pytest.mark.parametrize(("norm", "factor"), [(2.0, 0.5), (1.0, 1.0), (0.5, 1.0), (0.0, 1.0)])
def test_only_what_is_longer_than_the_limit_is_shortened(norm: float, factor: float) -> None:
    assert clip_factor(torch.tensor(norm, dtype=torch.float64), 1.0).item() == factor


def test_without_a_limit_nothing_is_shortened() -> None:
    assert clip_factor(torch.tensor(1e30, dtype=torch.float64), None).item() == 1.0


def test_a_mix_is_the_weighted_sum_in_the_gradients_shape() -> None:
    gradients = torch.tensor([[[1.0, 0.0], [2.0, 1.0]], [[-1.0, 1.0], [0.0, 4.0]]])
    found = weighted_sum(torch.tensor([2.0, 1.5], dtype=torch.float64), gradients)
    torch.testing.assert_close(found, torch.tensor([[0.5, 1.5], [4.0, 8.0]]))


def test_a_mix_of_bfloat16_gradients_is_rounded_once() -> None:
    print("seed", torch.seed())
    gradients = torch.randn(3, 1000).to(torch.bfloat16)
    coefficients = torch.tensor([1.01, -9.1, 2.0], dtype=torch.float64)
    exact = coefficients @ gradients.double()
    float32_rounding = 2.0**-23 * (coefficients.abs() @ gradients.double().abs())
    found = weighted_sum(coefficients, gradients)
    assert found.dtype == torch.bfloat16
    assert ((found.double() - exact).abs() <= 2.0**-8 * exact.abs() + float32_rounding).all()


def test_a_coefficient_may_be_negative_where_every_task_gains() -> None:
    gradients = torch.tensor([[10.0, 10.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = gradops_coefficients(gram_matrix(gradients), alpha=0.0)
    assert found.coefficients.tolist() == pytest.approx([1.01, -9.1, 2.0], abs=0.01)
    assert (gradients @ weighted_sum(found.coefficients, gradients) >= -1e-5).all()
    assert found.weights.tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_descent_cosines_of_hand_checked_gradients() -> None:
    gradients = torch.tensor([[3.0, 4.0], [1.0, 0.0], [-4.0, 3.0], [-6.0, -8.0]])
    # A step down the first gradient.
    cosines = descent_cosines(gradients, gram_matrix(gradients), torch.tensor([-0.3, -0.4]))
    assert cosines.dtype == torch.float64
    assert cosines.tolist() == pytest.approx([1.0, 0.6, 0.0, -1.0], abs=1e-6)


def test_descent_cosines_without_a_direction_are_nan() -> None:
    gradients = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    gram = gram_matrix(gradients)
    moved = descent_cosines(gradients, gram, torch.tensor([1.0, 0.0]))
    assert moved.isnan().tolist() == [False, True]
    assert descent_cosines(gradients, gram, torch.zeros(2)).isnan().all()
    assert not math.isnan(moved[0].item())


@pytest.mark.parametrize(
    ("coefficients", "against"),
    [
        ([1.0, 1.0], False),
        ([1.0, 0.5], False),
        ([1.0, 0.4], True),
        ([1.0, 0.5 - 1e-9], False),
        ([1.0, 0.5 - 1e-5], True),
    ],
)
def test_opposition_of_a_hand_checked_pair_counts_beyond_rounding(
    coefficients: list[float], against: bool
) -> None:
    gram = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    found = violates_non_conflict(gram, torch.tensor(coefficients, dtype=torch.float64))
    assert found.item() is against


def test_exact_coefficients_never_oppose() -> None:
    print("seed", torch.seed())
    scales = 10.0 ** torch.linspace(-4, 4, 5)[:, None]
    for _ in range(50):
        gram = gram_matrix(torch.randn(5, 8) * scales)
        exact = gradops_coefficients(gram, alpha=-1.0).coefficients
        assert not violates_non_conflict(gram, exact)
        assert violates_non_conflict(gram, -exact)


def test_a_task_without_gradient_is_never_opposed() -> None:
    gram = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    coefficients = torch.tensor([1.0, -5.0], dtype=torch.float64)
    assert not violates_non_conflict(gram, coefficients)
