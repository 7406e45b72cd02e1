"""Weights and coefficients, and whole steps, as Triton's interpreter runs the kernels.

Run by `test_kernels.py`, in a process of its own.
"""

# T tasks, P shared parameters

import math

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import recsys_mtl.gradients as plain
from recsys_mtl.gradients import GradOPSCoefficients, gradops, gradops_reference, kernels
from recsys_mtl.gradients import zero_sine_squared_for as limit_for
from tests.unit.gradients.poison import draw, poisoned_outputs  # noqa: F401
from tests.unit.gradients.sampling import gradient_sets, largest_sine_dropped, smallest_sine

any_alpha = st.floats(-10, 10)
both_dtypes = st.one_of(gradient_sets(torch.float32), gradient_sets(torch.float64))
NUMBERS = ("shares_kept", "contributions", "weights", "coefficients")
PLANAR = torch.tensor([0.0, 100.0, 170.0], dtype=torch.float64).deg2rad()
PLANAR = torch.stack([PLANAR.cos(), PLANAR.sin()], dim=1)


def relative_tolerance(gradients: Tensor) -> float:
    """How far two computations may differ: the Gram's rounding, and the choice of dependents."""
    sine = smallest_sine(gradients)
    return 3e-7 + 1e-14 / sine**2 + 10 * largest_sine_dropped(gradients) / sine


def assert_same_flags(found: GradOPSCoefficients, expected: GradOPSCoefficients) -> None:
    for name in ("conflicts", "used_min_norm", "finite"):
        flags = getattr(found, name)
        assert flags.view(torch.uint8).amax() <= 1, f"{name} was not written"
        assert torch.equal(flags, getattr(expected, name)), name


def assert_same(found: GradOPSCoefficients, expected: GradOPSCoefficients, error: float) -> None:
    assert_same_flags(found, expected)
    for name in NUMBERS:
        values, scale = getattr(expected, name), getattr(expected, name).abs().amax()
        torch.testing.assert_close(
            getattr(found, name), values, rtol=error, atol=error * float(scale), msg=name
        )


@settings(max_examples=20, deadline=None)
@given(gradients=both_dtypes, alpha=any_alpha)
@example(gradients=PLANAR, alpha=0.0)
def test_algebra_equals_that_of_torch(gradients: Tensor, alpha: float) -> None:
    gram, limit = plain.gram_matrix(gradients), limit_for(gradients.dtype)
    found = kernels.gradops_coefficients(gram, alpha=alpha, zero_sine_squared=limit)
    expected = plain.gradops_coefficients(gram, alpha=alpha, zero_sine_squared=limit)
    assert_same_flags(found, expected)
    # Of dependent gradients rounding chooses which stand for all: only the update is unique, and
    # in the min-norm fallback so are not the weights.
    error = relative_tolerance(gradients) * (1 + abs(alpha))
    update = expected.coefficients @ gradients.double()
    assert (found.coefficients @ gradients.double() - update).norm() <= error * update.norm()
    for name in NUMBERS[:2] if expected.used_min_norm else NUMBERS[:3]:
        values = getattr(expected, name)
        torch.testing.assert_close(getattr(found, name), values, rtol=error, atol=1e-12, msg=name)


@settings(max_examples=20, deadline=None)
@given(gradients=both_dtypes, alpha=any_alpha)
@example(gradients=PLANAR, alpha=0.0)
@example(gradients=torch.zeros(3, 5), alpha=-1.0)
def test_step_equals_the_reference(gradients: Tensor, alpha: float) -> None:
    limit = limit_for(gradients.dtype)
    update, weights, projected = gradops_reference(gradients, alpha=alpha, zero_sine_squared=limit)
    step = gradops(gradients, alpha=alpha, backend="triton")
    error = relative_tolerance(gradients) * (1 + abs(alpha))
    assert step.update.dtype == gradients.dtype
    assert (step.update - update).norm() <= error * update.norm()
    if projected.any():  # the weights of the min-norm point are not unique
        torch.testing.assert_close(step.weights, weights, rtol=error, atol=1e-12)
    assert bool(step.used_min_norm) == bool(gradients.any() and not projected.any())


def test_dependent_gradients_move_by_the_min_norm_point() -> None:
    step = gradops(PLANAR, alpha=0.0, backend="triton")
    assert step.used_min_norm
    expected = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(step.coefficients, expected)
    torch.testing.assert_close(step.weights, expected)


@pytest.mark.parametrize("limit", [1e-7, 1e-5])
@pytest.mark.parametrize("third", [[-1.0, 1e-3, 0.0], [-1.0, 1.0, 1.0]])
def test_sines_within_the_limit_count_as_zero(limit: float, third: list[float]) -> None:
    # The squared sine of the second gradient to the first is 1e-6, and so is the third's.
    gradients = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1e-3, 0.0], third], dtype=torch.float64)
    gram = plain.gram_matrix(gradients)
    found = kernels.gradops_coefficients(gram, alpha=0.5, zero_sine_squared=limit)
    expected = plain.gradops_coefficients(gram, alpha=0.5, zero_sine_squared=limit)
    assert_same(found, expected, 1e-9)


@settings(max_examples=10, deadline=None)
@given(num_tasks=st.integers(2, 8), rank=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_min_norm_point_is_no_longer_than_that_of_torch(
    num_tasks: int, rank: int, seed: int
) -> None:
    # Tasks all around a small subspace: nothing is left of any of them, and many are dropped or
    # taken in on the way to the point. Shifted, so that the point is not zero.
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(num_tasks, rank, generator=generator, dtype=torch.float64) + 0.7
    gram = plain.gram_matrix(gradients)
    expected = plain.gradops_coefficients(gram, alpha=0.0, zero_sine_squared=1e-13)
    assume(expected.used_min_norm)
    found = kernels.gradops_coefficients(gram, alpha=0.0, zero_sine_squared=1e-13)
    point, shortest = found.coefficients @ gradients, expected.coefficients @ gradients
    assert (point - shortest).norm() <= 1e-8 * gradients.norm(dim=1).amax()
    assert (found.weights >= 0).all()


@pytest.mark.parametrize("alpha", [-10.0, 10.0])
@pytest.mark.parametrize("num_tasks", [1, 2, 9, 16])
def test_algebra_holds_for_any_number_of_tasks_and_extreme_alpha(
    num_tasks: int, alpha: float
) -> None:
    # 1e-40 to the power of -10 is beyond float64: only a softmax that subtracts the largest holds.
    exponents = 8 * torch.rand(num_tasks, 1, dtype=torch.float64) - 44
    gram = plain.gram_matrix(draw(num_tasks, 40, dtype=torch.float64) * 10**exponents)
    found = kernels.gradops_coefficients(gram, alpha=alpha)
    assert found.coefficients.isfinite().all()
    assert_same(found, plain.gradops_coefficients(gram, alpha=alpha), 1e-9)


def test_gram_that_is_not_contiguous_is_read_as_it_is() -> None:
    gram = plain.gram_matrix(draw(3, 40))
    inside = torch.full((5, 6), math.nan, dtype=torch.float64)
    inside[1:4, 2:5] = gram
    found = kernels.gradops_coefficients(inside[1:4, 2:5], alpha=1.0)
    assert_same(found, plain.gradops_coefficients(gram, alpha=1.0), 1e-12)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("place", [(0, 0), (2, 700)])
def test_one_entry_that_is_not_finite_gives_zeros_and_a_flag(
    bad: float, place: tuple[int, int]
) -> None:
    gradients = draw(3, 701)
    assert kernels.gradops_coefficients(kernels.gram_matrix(gradients), alpha=1.0).finite
    gradients[place] = bad
    result = kernels.gradops_coefficients(kernels.gram_matrix(gradients), alpha=1.0)
    assert result.finite.view(torch.uint8) == 0
    for name in (*NUMBERS, "used_min_norm"):
        assert not getattr(result, name).any()
    with pytest.raises(ValueError, match="infinite or NaN"):
        gradops(gradients, alpha=1.0, backend="triton")
