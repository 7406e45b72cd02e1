import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_mtl.gradients import gram_matrix
from recsys_mtl.gradients.methods.contract import Evidence
from recsys_mtl.gradients.methods.dw import dw_coefficients, weigh_tasks
from tests.unit.gradients.sampling import gradient_sets

alphas = st.floats(-5, 5)


def dw_on_vectors(gradients: Tensor, alpha: float) -> list[float]:
    """Eq. 3 to 5 as they are written, with exp(R_i) for R_i, over the tasks with a gradient."""
    total = gradients.sum(dim=0)
    present = [bool(gradient.any()) for gradient in gradients]
    powers = [
        math.exp(float(total @ gradient / gradient.norm())) ** alpha if there else 0.0
        for gradient, there in zip(gradients, present, strict=True)
    ]
    mean = sum(powers) / max(1, sum(present))
    return [power / mean if mean else 0.0 for power in powers]


def test_weights_of_a_hand_checked_pair() -> None:
    gram = torch.tensor([[1.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    expected = [2 * math.e / (1 + math.e), 2 / (1 + math.e)]
    assert dw_coefficients(gram, alpha=-1.0).tolist() == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(gradients=gradient_sets(torch.float64), alpha=alphas)
def test_it_is_the_paper_s_formula_on_vectors(gradients: Tensor, alpha: float) -> None:
    gradients = gradients / gradients.norm().clamp(min=1e-9)  # the powers stay within float64
    found = dw_coefficients(gram_matrix(gradients), alpha=alpha)
    assert found.tolist() == pytest.approx(dw_on_vectors(gradients, alpha), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(gradients=gradient_sets(torch.float64), alpha=alphas)
def test_weights_have_the_mean_1_over_tasks_with_a_gradient(
    gradients: Tensor, alpha: float
) -> None:
    found, present = dw_coefficients(gram_matrix(gradients), alpha=alpha), gradients.any(dim=1)
    assert (found >= 0).all()
    assert not found[~present].any()
    assert float(found.sum()) == pytest.approx(float(present.sum()))


@settings(max_examples=30, deadline=None)
@given(gradients=gradient_sets(torch.float64))
def test_alpha_0_is_the_plain_sum(gradients: Tensor) -> None:
    found = dw_coefficients(gram_matrix(gradients), alpha=0.0)
    torch.testing.assert_close(found, gradients.any(dim=1).double())


@pytest.mark.parametrize("alpha", [-3.0, 3.0])
def test_no_contribution_overflows(alpha: float) -> None:
    gram = gram_matrix(torch.tensor([[1e150, 0.0], [0.0, 1e100]], dtype=torch.float64))
    expected = [0.0, 2.0] if alpha < 0 else [2.0, 0.0]
    assert dw_coefficients(gram, alpha=alpha).tolist() == expected


def test_a_step_reports_what_the_weights_came_from() -> None:
    gram = torch.tensor([[1.0, -2.0], [-2.0, 16.0]], dtype=torch.float64)
    weighting, state = weigh_tasks(Evidence(0, 0, torch.ones(2).bool(), gram=gram), {}, alpha=-1.0)
    assert torch.equal(weighting.weights, weighting.coefficients)
    assert weighting.diagnostics["contribution"].tolist() == pytest.approx([-1.0, 3.5])
    assert state == {}
