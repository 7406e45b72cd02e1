import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_mtl.gradients import gradops_coefficients, gradops_reference, gram_matrix
from recsys_mtl.gradients.methods.contract import Evidence
from recsys_mtl.gradients.methods.gradops_static import gradops_static_coefficients, weigh_tasks
from tests.unit.gradients.sampling import gradient_sets, smallest_sine, unit_rows

float64_sets = gradient_sets(torch.float64)


def drawn_weights(num_tasks: int, seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(num_tasks, generator=generator, dtype=torch.float64)
    return (num_tasks * drawn / drawn.sum()).tolist()


def test_coefficients_of_a_hand_checked_pair() -> None:
    gram = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    found = gradops_static_coefficients(gram, weights=[1.5, 0.5])
    assert found.coefficients.tolist() == pytest.approx([2.0, 1.25])
    assert found.weights.tolist() == [1.5, 0.5]


@settings(max_examples=50, deadline=None)
@given(gradients=float64_sets)
def test_weights_of_1_are_gradops_with_alpha_0(gradients: Tensor) -> None:
    gram, num_tasks = gram_matrix(gradients), len(gradients)
    found = gradops_static_coefficients(gram, weights=[1.0] * num_tasks)
    expected = gradops_coefficients(gram, alpha=0.0)
    for name in ("weights", "coefficients", "contributions", "shares_kept", "used_min_norm"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@settings(max_examples=50, deadline=None)
@given(gradients=float64_sets, seed=st.integers(0, 2**32 - 1))
def test_it_is_the_weighted_sum_of_projected_vectors(gradients: Tensor, seed: int) -> None:
    weights = drawn_weights(len(gradients), seed)
    found = gradops_static_coefficients(
        gram_matrix(gradients), weights=weights, zero_sine_squared=1e-13
    )
    update = found.coefficients @ gradients
    _, _, projected = gradops_reference(gradients, alpha=0.0, zero_sine_squared=1e-13)
    sine = smallest_sine(gradients)
    if projected.any():
        error = (update - torch.tensor(weights, dtype=torch.float64) @ projected).norm()
        assert error <= (1e-9 + 1e-13 / sine**2) * gradients.norm(dim=1).sum()
    products = unit_rows(gradients) @ update
    terms = (found.coefficients[:, None] * gradients).norm(dim=1).sum()
    assert (products >= -1e-12 / sine * terms).all()


def test_a_task_without_a_gradient_takes_no_weight_from_the_others() -> None:
    gram = torch.diag(torch.tensor([1.0, 0.0, 4.0], dtype=torch.float64))
    found = gradops_static_coefficients(gram, weights=[0.5, 1.5, 1.0])
    assert found.coefficients.tolist() == found.weights.tolist() == [0.5, 0.0, 1.0]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0, 1.0], "weights has 2 entries; pass one for each of the 3 tasks."),
        ([1.0, 1.0, 1.1], "weights sum to 3.1; for 3 tasks their sum must be 3."),
        ([4.0, -1.0, 0.0], "weights are [4.0, -1.0, 0.0]; each must be finite and at least 0."),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: list[float], said: str) -> None:
    with pytest.raises(ValueError, match="weights") as refused:
        gradops_static_coefficients(torch.eye(3, dtype=torch.float64), weights=weights)
    assert str(refused.value) == said


def test_a_step_reports_what_gradops_reports() -> None:
    gram = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    evidence = Evidence(0, 0, torch.ones(2).bool(), gram=gram)
    weighting, _ = weigh_tasks(evidence, {}, weights=[1.5, 0.5])
    assert weighting.weights.tolist() == [1.5, 0.5]
    assert weighting.diagnostics["share_kept"].tolist() == pytest.approx([0.5**0.5, 0.5**0.5])
    assert not weighting.diagnostics["min_norm"]
