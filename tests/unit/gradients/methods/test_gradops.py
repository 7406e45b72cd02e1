import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_mtl.gradients import (
    GradOPSCoefficients,
    combine_gradients,
    gradops,
    gradops_coefficients,
    gradops_reference,
    gram_matrix,
    zero_sine_squared_for,
)
from recsys_mtl.gradients.gram import correlations
from recsys_mtl.gradients.methods.gradops import _regress_on_others
from tests.unit.gradients.sampling import (
    gradient_sets,
    largest_sine_dropped,
    sines,
    smallest_sine,
    unit_rows,
)

any_alpha = st.floats(-10, 10)
float32_sets, float64_sets = gradient_sets(torch.float32), gradient_sets(torch.float64)
both_dtypes = st.one_of(float32_sets, float64_sets)


def coefficients_of(gradients: Tensor, alpha: float = 0.0) -> GradOPSCoefficients:
    limit = zero_sine_squared_for(gradients.dtype)
    return gradops_coefficients(gram_matrix(gradients), alpha=alpha, zero_sine_squared=limit)


def product_tolerance(gradients: Tensor) -> float:
    """How far below 0 a product may be, relative to both norms."""
    sine = smallest_sine(gradients)
    if gradients.dtype == torch.float64:
        return 1e-12 / sine
    return (1e-6 if sine >= 0.1 else 1e-7 / sine) + largest_sine_dropped(gradients)


def relative_tolerance(gradients: Tensor) -> float:
    """How far two computations may differ: the Gram's rounding, and the choice of dependents."""
    sine = smallest_sine(gradients)
    return 3e-7 + 1e-14 / sine**2 + 10 * largest_sine_dropped(gradients) / sine


def at_degrees(*angles: float) -> Tensor:
    radians = torch.tensor(angles, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


# --- by hand


def test_step_of_a_hand_checked_pair() -> None:
    step = gradops(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]), alpha=0.0)
    torch.testing.assert_close(step.update, torch.tensor([0.5, 1.5]))
    torch.testing.assert_close(step.weights, torch.tensor([1.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(step.coefficients, torch.tensor([2.0, 1.5], dtype=torch.float64))
    assert step.conflicts.tolist() == [[False, True], [True, False]]
    assert not step.used_min_norm


def test_weights_of_a_hand_checked_pair_follow_alpha() -> None:
    # g'_1 = [0.5, 0.5] and g'_2 = [0, 1] are met by their own gradients alone:
    # R_1 = 0.5 / 1 and R_2 = 1 / sqrt(2).
    result = coefficients_of(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]), alpha=2.0)
    expected = torch.tensor([0.5, 0.5**0.5], dtype=torch.float64)
    torch.testing.assert_close(result.contributions, expected)
    torch.testing.assert_close(result.weights, torch.tensor([2 / 3, 4 / 3], dtype=torch.float64))
    torch.testing.assert_close(
        result.shares_kept, torch.tensor([0.5**0.5, 0.5**0.5], dtype=torch.float64)
    )


def test_coefficient_may_be_negative_where_every_task_gains() -> None:
    gradients = torch.tensor([[10.0, 10.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    step = gradops(gradients, alpha=0.0)
    expected = torch.tensor([1.01, -9.1, 2.0], dtype=torch.float64)
    torch.testing.assert_close(step.coefficients, expected, rtol=1e-3, atol=0)
    assert (gradients @ step.update > 0).all()


def test_dependent_gradients_move_by_the_min_norm_point() -> None:
    # 0 and 170 degrees span the shortest combination: half their sum, at 85 degrees.
    step = gradops(at_degrees(0, 100, 170), alpha=0.0)
    assert step.used_min_norm
    expected = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(step.weights, expected)
    torch.testing.assert_close(step.coefficients, expected)
    length = math.cos(math.radians(85))
    torch.testing.assert_close(step.update, length * at_degrees(85)[0])


def test_opposite_gradients_give_a_zero_step() -> None:
    step = gradops(torch.tensor([[3.0, 0.0], [-1.0, 0.0]]), alpha=1.0)
    assert step.used_min_norm
    assert not step.update.any()
    assert not step.coefficients.any()
    assert not step.weights.any()


@pytest.mark.parametrize(("zero_sine_squared", "kept"), [(1e-7, True), (1e-5, False)])
def test_sine_within_the_limit_counts_as_dependent(zero_sine_squared: float, kept: bool) -> None:
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1e-3]], dtype=torch.float64)  # sine^2 = 1e-6
    result = gradops_coefficients(
        gram_matrix(gradients), alpha=0.0, zero_sine_squared=zero_sine_squared
    )
    assert bool(result.shares_kept.any()) == kept
    assert bool(result.used_min_norm) != kept


def test_gradient_within_the_limit_of_a_span_adds_nothing_to_it() -> None:
    first = torch.tensor([1.0, 0.0, 0.0])
    beside_first = torch.tensor([1.0, 5e-5, 0.0])  # sine^2 = 2.5e-9, the limit is 1e-8
    gradients = torch.stack([first, beside_first, torch.tensor([-1.0, 1.0, 1.0])])
    update, *_ = gradops_reference(gradients, alpha=0.0, zero_sine_squared=1e-8)
    torch.testing.assert_close(gradops(gradients, alpha=0.0).update, update.float())


# --- no task loses


@settings(max_examples=60, deadline=None)
@given(gradients=both_dtypes, alpha=any_alpha)
def test_update_opposes_no_task(gradients: Tensor, alpha: float) -> None:
    update = gradops(gradients, alpha=alpha).update.double()
    products = unit_rows(gradients) @ update
    assert products.amin() >= -product_tolerance(gradients) * update.norm()


@settings(max_examples=60, deadline=None)
@given(gradients=both_dtypes)
def test_projected_gradient_opposes_no_task(gradients: Tensor) -> None:
    _, correlation = correlations(gram_matrix(gradients))
    limit = zero_sine_squared_for(gradients.dtype)
    regression, sine_squared = _regress_on_others(correlation, limit)
    conflicting = (correlation < 0).any(dim=1)
    unit = unit_rows(gradients)
    remainders = torch.where((sine_squared > 0)[:, None], unit - regression @ unit, 0.0)
    projected = torch.where(conflicting[:, None], remainders, unit)
    products = projected @ unit.T
    tolerance = product_tolerance(gradients) * projected.norm(dim=1, keepdim=True)
    assert (products >= -tolerance).all()


# --- against the reference


@settings(max_examples=60, deadline=None)
@given(gradients=both_dtypes, alpha=any_alpha)
def test_step_equals_the_reference(gradients: Tensor, alpha: float) -> None:
    limit = zero_sine_squared_for(gradients.dtype)
    update, weights, projected = gradops_reference(gradients, alpha=alpha, zero_sine_squared=limit)
    step = gradops(gradients, alpha=alpha)
    error = relative_tolerance(gradients) * (1 + abs(alpha))
    assert step.update.dtype == gradients.dtype
    assert (step.update - update).norm() <= error * update.norm()
    if projected.any():  # the weights of the min-norm point are not unique
        torch.testing.assert_close(step.weights, weights, rtol=error, atol=1e-12)
    assert bool(step.used_min_norm) == bool(gradients.any() and not projected.any())


@settings(max_examples=40, deadline=None)
@given(gradients=both_dtypes)
def test_shares_kept_equal_the_sines_of_conflicting_tasks(gradients: Tensor) -> None:
    result = coefficients_of(gradients)
    unit = unit_rows(gradients)
    expected = torch.where((unit @ unit.T < 0).any(dim=1), sines(gradients), unit.norm(dim=1))
    torch.testing.assert_close(
        result.shares_kept, expected, rtol=relative_tolerance(gradients), atol=0
    )


@settings(max_examples=40, deadline=None)
@given(gradients=both_dtypes)
def test_contributions_equal_the_products_with_the_summed_projections(gradients: Tensor) -> None:
    unit = unit_rows(gradients)  # of one length, the literal formula is accurate
    limit = zero_sine_squared_for(gradients.dtype)
    _, _, projected = gradops_reference(unit, alpha=0.0, zero_sine_squared=limit)
    result = gradops_coefficients(gram_matrix(unit), alpha=0.0, zero_sine_squared=limit)
    literal = unit @ projected.sum(dim=0)
    torch.testing.assert_close(
        result.contributions, literal, rtol=relative_tolerance(gradients), atol=1e-6
    )


def test_contributions_are_accurate_over_eight_decades_of_norms() -> None:
    gradients = torch.tensor([[1e4, 0.0], [-1e-4, 1e-4]], dtype=torch.float64)
    contributions = coefficients_of(gradients).contributions
    expected = torch.tensor([5e3, 1e-4 / 2**0.5], dtype=torch.float64)
    torch.testing.assert_close(contributions, expected, rtol=1e-12, atol=0)


def test_two_tasks_with_equal_weights_equal_summed_pcgrad() -> None:
    print("seed", torch.seed())
    for _ in range(50):
        first, second = gradients = torch.randn(2, 5, dtype=torch.float64)
        product = first @ second
        expected = first + second
        if product < 0:
            expected = expected - product / (second @ second) * second
            expected = expected - product / (first @ first) * first
        torch.testing.assert_close(gradops(gradients, alpha=0.0).update, expected)


# --- order, scale, sums


@settings(max_examples=40, deadline=None)
@given(gradients=both_dtypes, alpha=any_alpha, data=st.data())
def test_order_of_tasks_does_not_matter(gradients: Tensor, alpha: float, data: Any) -> None:
    order = data.draw(st.permutations(range(len(gradients))))
    step, permuted = gradops(gradients, alpha=alpha), gradops(gradients[order], alpha=alpha)
    error = relative_tolerance(gradients) * (1 + abs(alpha))
    assert (permuted.update - step.update).norm() <= error * step.update.norm()
    if not step.used_min_norm:
        torch.testing.assert_close(permuted.weights, step.weights[order], rtol=error, atol=1e-12)
    assert torch.equal(permuted.conflicts, step.conflicts[order][:, order])


@settings(max_examples=40, deadline=None)
@given(gradients=both_dtypes, alpha=any_alpha, exponent=st.integers(-20, 20))
def test_scaled_gradients_give_the_scaled_update(
    gradients: Tensor, alpha: float, exponent: int
) -> None:
    step, scaled = gradops(gradients, alpha=alpha), gradops(2.0**exponent * gradients, alpha=alpha)
    error = relative_tolerance(gradients) * (1 + abs(alpha))
    assert (scaled.update / 2.0**exponent - step.update).norm() <= error * step.update.norm()
    torch.testing.assert_close(scaled.weights, step.weights, rtol=error, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(gradients=both_dtypes, alpha=any_alpha)
def test_weights_are_finite_with_mean_one_over_the_tasks_kept(
    gradients: Tensor, alpha: float
) -> None:
    result = coefficients_of(gradients, alpha)
    assume(not result.used_min_norm)
    kept = result.shares_kept > 0
    assert (result.weights >= 0).all()
    assert result.coefficients.isfinite().all()
    assert not result.weights[~kept].any()
    torch.testing.assert_close(float(result.weights[kept].sum()), float(kept.sum()))


def test_norm_of_the_update_follows_from_the_gram() -> None:
    print("seed", torch.seed())
    gradients = torch.randn(4, 30, dtype=torch.float64)
    step = gradops(gradients, alpha=1.0)
    squared = step.coefficients @ gram_matrix(gradients) @ step.coefficients
    torch.testing.assert_close(squared, step.update @ step.update)


# --- tasks without a gradient, gradients that are not finite


@settings(max_examples=40, deadline=None)
@given(gradients=float64_sets, alpha=any_alpha, place=st.integers(0, 8))
def test_task_without_a_gradient_is_left_out(gradients: Tensor, alpha: float, place: int) -> None:
    alone = gradops_coefficients(gram_matrix(gradients), alpha=alpha, zero_sine_squared=1e-13)
    place = min(place, len(gradients))
    others = [i for i in range(len(gradients) + 1) if i != place]
    gram = torch.zeros(len(gradients) + 1, len(gradients) + 1, dtype=torch.float64)
    gram[torch.tensor(others)[:, None], others] = gram_matrix(gradients)
    padded = gradops_coefficients(gram, alpha=alpha, zero_sine_squared=1e-13)
    for name in ("weights", "coefficients", "shares_kept", "contributions"):
        values = getattr(padded, name)
        assert values[place] == 0
        # Not to the last bit: sines down to 1e-6 make rounding of 1e-16 count for 1e-4 of a norm.
        torch.testing.assert_close(values[others], getattr(alone, name), rtol=1e-5, atol=1e-8)
    assert torch.equal(padded.conflicts[others][:, others], alone.conflicts)
    assert padded.used_min_norm == alone.used_min_norm


def test_no_gradient_at_all_gives_a_zero_step() -> None:
    step = gradops(torch.zeros(3, 5), alpha=-1.0)
    assert not step.update.any()
    assert not step.weights.any()
    assert not step.used_min_norm


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_gram_that_is_not_finite_gives_zeros_and_a_flag(value: float) -> None:
    gram = torch.eye(3, dtype=torch.float64)
    assert gradops_coefficients(gram, alpha=1.0).finite
    gram[0, 1] = gram[1, 0] = value
    result = gradops_coefficients(gram, alpha=1.0)
    assert not result.finite
    for name in ("weights", "coefficients", "shares_kept", "contributions", "used_min_norm"):
        assert not getattr(result, name).any()


# --- what is refused, and what the device is asked


@pytest.mark.parametrize("entry", [math.nan, math.inf])
def test_gradients_that_are_not_finite_are_refused(entry: float) -> None:
    with pytest.raises(ValueError, match="infinite or NaN"):
        gradops(torch.tensor([[1.0, entry], [0.0, 1.0]]), alpha=0.0)


@pytest.mark.parametrize("alpha", [math.nan, math.inf])
def test_alpha_that_is_not_finite_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha is"):
        gradops(torch.ones(2, 3), alpha=alpha)


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="'numpy'; it must be"):
        gradops(torch.ones(2, 3), alpha=0.0, backend="numpy")  # type: ignore[arg-type]


def test_gram_of_wrong_shape_or_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[T, T\]"):
        gradops_coefficients(torch.ones(2, 3, dtype=torch.float64), alpha=0.0)
    with pytest.raises(TypeError, match="float64"):
        gradops_coefficients(torch.eye(2), alpha=0.0)


def test_update_of_gradients_with_a_graph_has_none() -> None:
    gradients = torch.ones(2, 3, requires_grad=True)
    assert not gradops(gradients, alpha=0.0).update.requires_grad


@pytest.mark.parametrize("num_tasks", [1, 4])
def test_step_never_waits_for_the_device(monkeypatch: pytest.MonkeyPatch, num_tasks: int) -> None:
    def checks_on_the_host(*args: object, **options: object) -> None:
        raise AssertionError("a checked solver waits for the device")

    for solver in ("solve", "cholesky", "inv", "lu_factor", "ldl_factor", "lstsq", "eigh", "svd"):
        monkeypatch.setattr(torch.linalg, solver, checks_on_the_host)
    # A meta tensor has no values: reading one, or moving it to the host, raises.
    gradients = torch.empty(num_tasks, 1000, device="meta")
    result = gradops_coefficients(gram_matrix(gradients), alpha=1.0)
    update = combine_gradients(gradients, result.coefficients)
    assert update.shape == (1000,)
    assert update.device.type == result.used_min_norm.device.type == "meta"
