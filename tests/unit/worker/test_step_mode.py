"""What each method computes at which step, and what it decides."""

import math

import pytest
import torch
from recsys_mtl.gradients.step_kinds import (
    audits,
    covers_tables,
    decide,
    opposes,
    step_kind,
    without_products,
)

from recsys_mtl.config import GradOPS, Uniform
from recsys_mtl.gradients import gradops_coefficients, gram_matrix
from recsys_mtl.gradients.operations import operations_of

TORCH = operations_of("torch")
UNIFORM = Uniform(kind="uniform")
GRADOPS = GradOPS(kind="gradops", alpha=0.7)


def test_gradops_computes_its_own_coefficients_at_every_step() -> None:
    assert {step_kind(GRADOPS, step) for step in range(5)} == {"exact"}
    assert {step_kind(UNIFORM, step) for step in range(5)} == {"uniform"}


def test_between_refreshes_the_coefficients_are_held() -> None:
    method = GradOPS(kind="gradops", refresh_interval_steps=3)
    kinds = [step_kind(method, step) for step in range(7)]
    assert kinds == ["exact", "held", "held", "exact", "held", "held", "exact"]


def test_only_the_representation_is_audited_and_at_its_interval() -> None:
    method = GradOPS(kind="gradops", space="representation", audit_interval_steps=3)
    assert {step_kind(method, step) for step in range(5)} == {"representation"}
    assert [step for step in range(8) if audits(method, step)] == [0, 3, 6]
    assert not any(audits(m, step) for m in (GRADOPS, UNIFORM) for step in range(8))


def test_tables_are_outside_the_products_in_scope_bottom_alone() -> None:
    assert covers_tables(GRADOPS)
    assert covers_tables(UNIFORM)
    assert not covers_tables(GradOPS(kind="gradops", scope="bottom"))


def test_gradops_takes_its_alpha_from_the_configuration() -> None:
    gram = gram_matrix(torch.tensor([[4.0, 0.0, 1.0], [-1.0, 1.0, 0.0], [0.0, 2.0, 5.0]]))
    found = decide(GRADOPS, gram, TORCH)
    expected = gradops_coefficients(gram, alpha=0.7)
    assert torch.equal(found.weights, expected.weights)
    assert torch.equal(found.coefficients, expected.coefficients)
    assert not torch.equal(found.weights, gradops_coefficients(gram, alpha=0.0).weights)
    assert found.conflict
    assert found.finite


def test_products_that_are_not_finite_decide_nothing_and_say_so() -> None:
    gram = torch.eye(3, dtype=torch.float64)
    gram[0, 1] = gram[1, 0] = math.nan
    found = decide(GRADOPS, gram, TORCH)
    assert not found.finite
    assert not found.weights.any()
    assert not found.coefficients.any()


def test_without_products_nothing_is_claimed_of_single_gradients() -> None:
    weights = torch.tensor([1.5, 0.5], dtype=torch.float64)
    found = without_products(weights, -weights)
    assert torch.equal(found.weights, weights)
    assert torch.equal(found.coefficients, -weights)
    for unknown in (found.gram, found.contributions, found.shares_kept):
        assert unknown.isnan().all()
    assert found.gram.shape == (2, 2)
    assert found.finite
    assert not found.conflict


@pytest.mark.parametrize(
    ("coefficients", "against"), [([1.0, 1.0], False), ([1.0, 0.5], False), ([1.0, 0.4], True)]
)
def test_opposition_of_a_hand_checked_pair(coefficients: list[float], against: bool) -> None:
    gram = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    assert opposes(gram, torch.tensor(coefficients, dtype=torch.float64)).item() is against


def test_exact_coefficients_never_oppose_and_rounding_is_no_opposition() -> None:
    print("seed", torch.seed())
    scales = 10.0 ** torch.linspace(-4, 4, 5)[:, None]
    for _ in range(50):
        gram = gram_matrix(torch.randn(5, 8) * scales)
        exact = gradops_coefficients(gram, alpha=-1.0).coefficients
        assert not opposes(gram, exact)
        assert opposes(gram, -exact)


def test_a_task_without_gradient_is_never_opposed() -> None:
    gram = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    assert not opposes(gram, torch.tensor([1.0, -5.0], dtype=torch.float64))
