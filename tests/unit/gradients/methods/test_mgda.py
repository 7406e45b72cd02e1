import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from recsys_mtl.gradients import gram_matrix
from recsys_mtl.gradients.methods.contract import Evidence
from recsys_mtl.gradients.methods.mgda import mgda_coefficients, weigh_tasks
from tests.unit.gradients.sampling import gradient_sets, unit_rows

float64_sets = gradient_sets(torch.float64)


def coefficients_of(gradients: Tensor) -> Tensor:
    return mgda_coefficients(gram_matrix(gradients), zero_sine_squared=1e-13)


def test_coefficients_of_a_hand_checked_pair() -> None:
    gram = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    assert mgda_coefficients(gram).tolist() == pytest.approx([0.75, 0.25])


@settings(max_examples=40, deadline=None)
@given(gradients=float64_sets)
def test_coefficients_meet_the_optimality_condition(gradients: Tensor) -> None:
    """Of the hull's shortest point p: p . g_i >= p . p for every i, with equality where c_i > 0."""
    found = coefficients_of(gradients)
    present = gradients.any(dim=1)
    assert (found >= 0).all()
    if not found.any():
        return  # the point is zero: the next test
    assert float(found.sum()) == pytest.approx(1.0)
    point = found @ gradients
    slack = unit_rows(gradients) @ point - point @ point / gradients.norm(dim=1).clamp(min=1e-300)
    longest = (found[:, None] * gradients).norm(dim=1).amax()
    accuracy = 1e-8 * gradients.norm(dim=1)[present].amin() + 1e-10 * longest
    assert (slack >= -accuracy)[present].all()
    assert (slack.abs() <= accuracy)[(found > 1e-9)].all()


@settings(max_examples=40, deadline=None)
@given(gradients=float64_sets)
def test_no_task_is_opposed(gradients: Tensor) -> None:
    found = coefficients_of(gradients)
    terms = found[:, None] * gradients
    products = unit_rows(gradients) @ terms.sum(dim=0)
    assert (products >= -1e-10 * terms.norm(dim=1).amax()).all()


def test_the_step_is_zero_where_no_direction_helps_every_task() -> None:
    for rows in ([[1.0, 0.0], [-3.0, 0.0]], [[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]], [[0.0, 0.0]]):
        gram = gram_matrix(torch.tensor(rows, dtype=torch.float64))
        assert mgda_coefficients(gram).tolist() == [0.0] * len(rows)


def test_a_task_without_labels_does_not_stop_the_others() -> None:
    gram = torch.diag(torch.tensor([2.0, 0.0, 2.0], dtype=torch.float64))
    assert mgda_coefficients(gram).tolist() == pytest.approx([0.5, 0.0, 0.5])


def test_a_step_reports_how_short_the_combination_is() -> None:
    gram = torch.tensor([[4.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    weighting, state = weigh_tasks(Evidence(0, 0, torch.ones(2).bool(), gram=gram), {})
    assert torch.equal(weighting.weights, weighting.coefficients)
    assert float(weighting.diagnostics["norm_ratio"]) == pytest.approx(0.5**0.5)
    assert state == {}
