import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_mtl.gradients import gram_matrix
from recsys_mtl.gradients.methods.contract import Evidence
from recsys_mtl.gradients.methods.pcgrad import draw_order, pcgrad_coefficients
from recsys_mtl.gradients.methods.pcgrad_dw import pcgrad_dw_coefficients, weigh_tasks
from tests.unit.gradients.methods.test_dw import dw_on_vectors
from tests.unit.gradients.methods.test_pcgrad import pcgrad_on_vectors
from tests.unit.gradients.sampling import gradient_sets

float64_sets = gradient_sets(torch.float64)
alphas, steps = st.floats(-5, 5), st.integers(0, 10**6)


def test_weights_of_a_hand_checked_pair() -> None:
    gram = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    found = pcgrad_dw_coefficients(gram, torch.tensor([[1], [0]]), alpha=0.0)
    assert found.contributions.tolist() == pytest.approx([0.5, 0.5**0.5])
    assert found.coefficients.tolist() == pytest.approx([2.0, 1.5])
    weighed = pcgrad_dw_coefficients(gram, torch.tensor([[1], [0]]), alpha=-1.0)
    first = 2 / (1 + torch.tensor(0.5 - 0.5**0.5, dtype=torch.float64).exp())
    assert weighed.weights.tolist() == pytest.approx([float(first), 2 - float(first)])


@settings(max_examples=30, deadline=None)
@given(gradients=float64_sets, alpha=alphas, step=steps)
def test_it_is_the_paper_s_formula_on_vectors(gradients: Tensor, alpha: float, step: int) -> None:
    gradients = gradients / gradients.norm().clamp(min=1e-9)
    order = draw_order(len(gradients), 0, step)
    projected, *_ = pcgrad_on_vectors(gradients, order)
    directions = torch.nn.functional.normalize(gradients, dim=1, eps=1e-300)
    # R_i is the product of the sum of projections with the raw gradient's direction.
    powers = (alpha * (directions @ projected.sum(dim=0))).exp()
    powers = torch.where(gradients.any(dim=1), powers, 0.0)
    expected = powers * gradients.any(dim=1).sum() / powers.sum().clamp(min=1e-300)
    found = pcgrad_dw_coefficients(gram_matrix(gradients), order, alpha=alpha)
    torch.testing.assert_close(found.weights, expected, rtol=1e-9, atol=1e-12)
    difference = found.coefficients @ gradients - expected @ projected
    assert difference.norm() <= 1e-11 * expected.max() * gradients.norm(dim=1).sum()


@settings(max_examples=30, deadline=None)
@given(gradients=float64_sets, step=steps)
def test_alpha_0_is_pcgrad(gradients: Tensor, step: int) -> None:
    gram, order = gram_matrix(gradients), draw_order(len(gradients), 0, step)
    found, expected = (
        pcgrad_dw_coefficients(gram, order, alpha=0.0),
        pcgrad_coefficients(gram, order),
    )
    torch.testing.assert_close(found.coefficients, expected.coefficients, rtol=1e-12, atol=0)
    assert torch.equal(found.shares_kept, expected.shares_kept)


@settings(max_examples=30, deadline=None)
@given(gradients=gradient_sets(torch.float64, max_tasks=2), alpha=alphas)
def test_of_two_tasks_none_is_opposed(gradients: Tensor, alpha: float) -> None:
    order = draw_order(len(gradients), 0, 0)
    found = pcgrad_dw_coefficients(gram_matrix(gradients), order, alpha=alpha)
    terms = found.coefficients[:, None] * gradients
    products = torch.nn.functional.normalize(gradients, dim=1, eps=1e-300) @ terms.sum(dim=0)
    assert (products >= -1e-12 * terms.norm(dim=1).sum()).all()


def test_where_nothing_conflicts_it_is_dw() -> None:
    gradients = torch.tensor([[1.0, 0.0, 0.2], [0.3, 2.0, 0.0], [0.1, 0.2, 0.5]]).double()
    order = draw_order(3, 0, 0)
    found = pcgrad_dw_coefficients(gram_matrix(gradients), order, alpha=-2.0)
    assert found.coefficients.tolist() == pytest.approx(dw_on_vectors(gradients, -2.0))


def test_a_step_has_the_order_of_its_seed_and_number() -> None:
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    gram, labelled, found = gram_matrix(gradients), torch.ones(3, dtype=torch.bool), set()
    for step in range(20):
        weighting, _ = weigh_tasks(Evidence(step, 9, labelled, gram=gram), {}, alpha=-1.0)
        expected = pcgrad_dw_coefficients(gram, draw_order(3, 9, step), alpha=-1.0)
        assert torch.equal(weighting.coefficients, expected.coefficients)
        assert torch.equal(weighting.weights, expected.coefficients)
        assert torch.equal(weighting.diagnostics["dynamic_weight"], expected.weights)
        found.add(tuple(expected.coefficients.tolist()))
    assert len(found) > 1
