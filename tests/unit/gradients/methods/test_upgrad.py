import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from recsys_mtl.gradients import gram_matrix
from recsys_mtl.gradients.methods.contract import Evidence
from recsys_mtl.gradients.methods.upgrad import upgrad_coefficients, weigh_tasks
from tests.unit.gradients.sampling import gradient_sets, largest_sine_dropped, unit_rows

float32_sets = gradient_sets(torch.float32)


def test_coefficients_of_a_hand_checked_pair() -> None:
    gram = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    found = upgrad_coefficients(gram)
    assert found.coefficients.tolist() == pytest.approx([1.0, 0.75])
    assert found.shares_kept.tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def accuracy_of(gradients: Tensor) -> float:
    """How far below 0 a product of unit vectors may be: by what dependent gradients leave beside
    those that stand for them, and by rounding, where nearly opposite ones have large coefficients.
    """
    return 1e-8 + largest_sine_dropped(gradients)


@settings(max_examples=50, deadline=None)
@given(gradients=float32_sets)
def test_projections_meet_their_optimality_conditions(gradients: Tensor) -> None:
    """Of pi(g_k) = g_k + v: v >= 0, pi(g_k) . g_j >= 0 for every j, and 0 where v_j > 0."""
    found, unit = upgrad_coefficients(gram_matrix(gradients)), unit_rows(gradients)
    present = gradients.any(dim=1)
    added = found.projections - torch.diag(present.double())
    products = found.projections @ unit @ unit.T
    accuracy = accuracy_of(gradients)
    assert (added >= -1e-15).all()
    assert (products >= -accuracy).all()
    assert (torch.where(added > 1e-9, products.abs(), 0.0) <= accuracy).all()
    assert not found.projections[~present].any()


@settings(max_examples=50, deadline=None)
@given(gradients=float32_sets)
def test_no_task_is_opposed(gradients: Tensor) -> None:
    coefficients = upgrad_coefficients(gram_matrix(gradients)).coefficients
    terms = coefficients[:, None] * gradients.double()
    products = unit_rows(gradients) @ terms.sum(dim=0)
    assert (products >= -accuracy_of(gradients) * terms.norm(dim=1).sum()).all()


@settings(max_examples=40, deadline=None)
@given(gradients=float32_sets)
def test_the_update_is_the_mean_of_the_projections(gradients: Tensor) -> None:
    found = upgrad_coefficients(gram_matrix(gradients))
    gradients = gradients.double()
    projected = gradients.norm(dim=1, keepdim=True) * (found.projections @ unit_rows(gradients))
    present = gradients.any(dim=1)
    if found.coefficients.any():
        assert (found.coefficients >= (1 - 1e-12) / float(present.sum()))[present].all()
        error = found.coefficients @ gradients - projected.sum(dim=0) / present.sum()
        terms = (found.coefficients[:, None] * gradients).norm(dim=1).sum()
        assert error.norm() <= 1e-12 * terms


def test_without_a_conflict_it_is_the_mean_gradient() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.2, 3.0], [0.5, 0.5]], dtype=torch.float64)
    found = upgrad_coefficients(gram_matrix(gradients))
    assert found.coefficients.tolist() == pytest.approx([1 / 3] * 3)
    assert found.shares_kept.tolist() == pytest.approx([1.0] * 3)


def test_the_step_is_zero_where_no_direction_helps_every_task() -> None:
    for rows in ([[1.0, 0.0], [-3.0, 0.0]], [[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]], [[0.0, 0.0]]):
        gram = gram_matrix(torch.tensor(rows, dtype=torch.float64))
        assert upgrad_coefficients(gram).coefficients.tolist() == [0.0] * len(rows)


def test_a_step_reports_what_is_kept() -> None:
    gram = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    weighting, state = weigh_tasks(Evidence(0, 0, torch.ones(2).bool(), gram=gram), {})
    assert torch.equal(weighting.weights, weighting.coefficients)
    assert weighting.diagnostics["share_kept"].tolist() == pytest.approx([0.5**0.5, 0.5**0.5])
    assert state == {}
