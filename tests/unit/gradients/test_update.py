"""What one step moves by: clipped, skipped where not finite, and safe outside the Gram."""

import math

import pytest
import torch
from torch import Tensor

from recsys_mtl.gradients import gradops_coefficients, gram_matrix
from recsys_mtl.gradients.update import Update, combined_update, descent_cosines

# O objectives, P shared parameters, H head parameters

ALL_GAIN_BUT_ONE_COEFFICIENT_IS_NEGATIVE = torch.tensor(
    [[10.0, 10.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
)


def update_of(gradients: Tensor, heads: Tensor, largest_norm: float | None = None) -> Update:
    gram = gram_matrix(gradients)
    return combined_update(
        gradients, heads, gram, gradops_coefficients(gram, alpha=0.0), largest_norm
    )


def fresh_gradients(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Of three objectives [3, 40], and of the heads [9]."""
    print("seed", torch.seed())
    return torch.randn(3, 40, dtype=dtype), torch.randn(9, dtype=dtype)


def norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def test_the_update_is_the_combination_and_the_heads_own_gradient_without_a_limit() -> None:
    gradients, heads = torch.tensor([[1.0, 0.0], [-1.0, 1.0]]), torch.tensor([30.0, 40.0])
    update = update_of(gradients, heads)
    torch.testing.assert_close(update.shared, torch.tensor([0.5, 1.5]))
    assert torch.equal(update.private, heads)
    assert update.norm.item() == pytest.approx(math.hypot(0.5, 1.5))
    assert not update.skip


def test_the_shared_update_is_shortened_to_the_limit_in_its_own_direction() -> None:
    gradients, heads = fresh_gradients()
    whole = update_of(gradients, heads)
    limit = 0.3 * norm(whole.shared)
    clipped = update_of(gradients, heads, limit)
    assert norm(clipped.shared) == pytest.approx(limit, rel=1e-6)
    assert clipped.norm.item() == pytest.approx(limit, rel=1e-6)
    torch.testing.assert_close(clipped.shared, 0.3 * whole.shared)
    # Tables outside the Gram are shared parameters too.
    torch.testing.assert_close(clipped.outside_weights, 0.3 * whole.outside_weights)


def test_heads_are_clipped_apart_from_the_shared_update() -> None:
    gradients, heads = fresh_gradients()
    limit = 2 * norm(update_of(gradients, heads).shared)
    long_heads = update_of(gradients, heads * 1e4, limit)
    assert torch.equal(long_heads.shared, update_of(gradients, heads).shared)
    assert norm(long_heads.private) == pytest.approx(limit, rel=1e-6)
    torch.testing.assert_close(long_heads.private / limit, heads / norm(heads))
    long_shared = update_of(gradients * 1e4, heads * limit / norm(heads) / 2, limit)
    assert norm(long_shared.shared) == pytest.approx(limit, rel=1e-6)
    assert norm(long_shared.private) == pytest.approx(limit / 2, rel=1e-6)


def test_what_is_within_the_limit_stays_as_it_is() -> None:
    gradients, heads = fresh_gradients()
    whole = update_of(gradients, heads)
    limited = update_of(gradients, heads, 1.01 * max(norm(whole.shared), norm(heads)))
    assert torch.equal(limited.shared, whole.shared)
    assert torch.equal(limited.private, heads)


def test_zero_gradients_stay_zero_under_a_limit() -> None:
    update = update_of(torch.zeros(2, 3), torch.zeros(4), 1.0)
    assert not update.shared.any()
    assert not update.private.any()
    assert not update.skip


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("largest_norm", [None, 1.0])
def test_one_value_that_is_not_finite_skips_the_step(bad: float, largest_norm: float) -> None:
    gradients, heads = fresh_gradients()
    assert not update_of(gradients, heads, largest_norm).skip
    broken = gradients.clone()
    broken[1, 7] = bad
    assert update_of(broken, heads, largest_norm).skip
    broken = heads.clone()
    broken[3] = bad
    assert update_of(gradients, broken, largest_norm).skip


def test_tables_outside_the_gram_take_the_weights_where_a_coefficient_is_negative() -> None:
    gradients = ALL_GAIN_BUT_ONE_COEFFICIENT_IS_NEGATIVE
    gram = gram_matrix(gradients)
    method = gradops_coefficients(gram, alpha=0.0)
    assert method.coefficients.tolist() == pytest.approx([1.01, -9.1, 2.0], abs=0.01)
    update = combined_update(gradients, torch.zeros(1), gram, method, None)
    assert (gradients @ update.shared >= -1e-6).all()
    assert update.outside_weights.tolist() == pytest.approx([1.0, 1.0, 1.0])


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
