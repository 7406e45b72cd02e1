import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_mtl.gradients import gradops_coefficients, gram_matrix
from recsys_mtl.gradients.gram import correlations
from recsys_mtl.gradients.methods.contract import Evidence
from recsys_mtl.gradients.methods.pcgrad import draw_order, pcgrad_coefficients, weigh_tasks
from tests.unit.gradients.sampling import gradient_sets

float64_sets = gradient_sets(torch.float64)
steps = st.integers(0, 10**6)
IN_ORDER = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
"""Gradients whose update depends on the order of projections."""


def pcgrad_on_vectors(gradients: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Algorithm 1 as it is written: the projected gradients [T, P], and what they are made of.

    Returns the projected gradients, the coefficients [T] of their sum, and [T] the share kept.
    """
    projected = gradients.clone()
    coefficients = torch.zeros(len(gradients), dtype=torch.float64)
    for i, vector in enumerate(projected):
        coefficients[i] += float(vector.any())
        for j in order[i].tolist():
            other = gradients[j]
            product = vector @ other
            if product < 0:
                vector -= product / (other @ other) * other
                coefficients[j] -= product / (other @ other)
    norms = gradients.norm(dim=1)
    shares = torch.where(norms > 0, projected.norm(dim=1) / norms, 0.0)
    return projected, coefficients, shares


def rounding(gradients: Tensor) -> Tensor:
    """[T] How far rounding may bring each coefficient: products are rounded beside both norms."""
    norms = gradients.norm(dim=1)
    return 1e-12 * torch.where(norms > 0, norms.sum() / norms, 0.0)


# --- by hand


def test_coefficients_of_a_hand_checked_pair() -> None:
    gram = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    found = pcgrad_coefficients(gram, torch.tensor([[1], [0]]))
    assert found.coefficients.tolist() == pytest.approx([2.0, 1.5])
    assert found.shares_kept.tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def test_the_order_of_projections_decides() -> None:
    # Off g_2 and then off g_3, g_1 becomes (0.5, 0.5) and then (0, 0.5); off g_3 first, (0, 0). The
    # other two tasks' projections are the same in both.
    gram = gram_matrix(IN_ORDER)
    first, second = (
        pcgrad_coefficients(gram, torch.tensor([own, [0, 2], [0, 1]])).coefficients @ IN_ORDER
        for own in ([1, 2], [2, 1])
    )
    assert (first - second).tolist() == pytest.approx([0.0, 0.5])


# --- against the vectors


@settings(max_examples=60, deadline=None)
@given(gradients=float64_sets, step=steps)
def test_it_is_algorithm_1_on_vectors(gradients: Tensor, step: int) -> None:
    order = draw_order(len(gradients), 0, step)
    projected, coefficients, shares = pcgrad_on_vectors(gradients, order)
    found = pcgrad_coefficients(gram_matrix(gradients), order)
    assert ((found.coefficients - coefficients).abs() <= rounding(gradients)).all()
    difference = found.coefficients @ gradients - projected.sum(dim=0)
    assert difference.norm() <= 1e-12 * gradients.norm(dim=1).sum()
    torch.testing.assert_close(found.shares_kept**2, shares**2, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(gradients=gradient_sets(torch.float64, max_tasks=2))
def test_two_tasks_are_those_of_gradops(gradients: Tensor) -> None:
    assume(len(gradients) == 2)
    gram = gram_matrix(gradients)
    gradops = gradops_coefficients(gram, alpha=0.0, zero_sine_squared=1e-13)
    assume(not gradops.used_min_norm)
    found = pcgrad_coefficients(gram, torch.tensor([[1], [0]]))
    torch.testing.assert_close(found.coefficients, gradops.coefficients, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.shares_kept**2, gradops.shares_kept**2, rtol=0, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(gradients=float64_sets, step=steps, data=st.data())
def test_the_order_of_tasks_does_not_matter(
    gradients: Tensor, step: int, data: st.DataObject
) -> None:
    places = torch.tensor(data.draw(st.permutations(range(len(gradients)))))
    order = draw_order(len(gradients), 0, step)
    found = pcgrad_coefficients(gram_matrix(gradients), order).coefficients
    # The task at the new place i was at places[i], where the other tasks had their old places.
    turned_order = places.argsort()[order[places]]
    turned = pcgrad_coefficients(gram_matrix(gradients[places]), turned_order).coefficients
    assert ((turned - found[places]).abs() <= rounding(gradients)[places]).all()


@settings(max_examples=50, deadline=None)
@given(gradients=float64_sets, step=steps, exponent=st.integers(-100, 100))
def test_scaling_all_gradients_changes_no_coefficient(
    gradients: Tensor, step: int, exponent: int
) -> None:
    gram, order = gram_matrix(gradients), draw_order(len(gradients), 0, step)
    scaled = pcgrad_coefficients(gram * 4.0**exponent, order)
    assert torch.equal(scaled.coefficients, pcgrad_coefficients(gram, order).coefficients)


@settings(max_examples=50, deadline=None)
@given(gradients=float64_sets, step=steps)
def test_the_others_are_as_if_a_zero_gradient_were_not_there(gradients: Tensor, step: int) -> None:
    num_tasks = len(gradients)
    padded = torch.cat([gradients, torch.zeros_like(gradients[:1])])
    order = draw_order(num_tasks + 1, 0, step)
    shorter = order[:num_tasks][order[:num_tasks] != num_tasks].view(num_tasks, num_tasks - 1)
    found = pcgrad_coefficients(gram_matrix(padded), order)
    expected = pcgrad_coefficients(gram_matrix(gradients), shorter)
    assert found.coefficients[-1] == found.shares_kept[-1] == 0
    difference = (found.coefficients[:-1] - expected.coefficients).abs()
    assert (difference <= rounding(gradients)).all()
    torch.testing.assert_close(found.shares_kept[:-1] ** 2, expected.shares_kept**2)


@settings(max_examples=50, deadline=None)
@given(gradients=float64_sets, step=steps)
def test_every_gradient_counts_at_least_once(gradients: Tensor, step: int) -> None:
    order = draw_order(len(gradients), 0, step)
    found = pcgrad_coefficients(gram_matrix(gradients), order)
    present = gradients.any(dim=1)
    assert (found.coefficients >= present.double() * (1 - 1e-12)).all()
    assert ((found.shares_kept >= 0) & (found.shares_kept <= 1)).all()


def test_no_gradient_at_all_gives_zeros() -> None:
    found = pcgrad_coefficients(torch.zeros(3, 3, dtype=torch.float64), draw_order(3, 0, 0))
    assert not found.coefficients.any()
    assert not found.shares_kept.any()


def test_with_more_than_two_tasks_an_update_may_go_against_one() -> None:
    print("seed", torch.seed())
    against = 0
    for step in range(300):
        gram = gram_matrix(torch.randn(4, 4, dtype=torch.float64))
        coefficients = pcgrad_coefficients(gram, draw_order(4, 0, step)).coefficients
        norms, correlation = correlations(gram)
        against += bool((correlation @ (coefficients * norms) < -1e-3 * norms.sum()).any())
    assert against > 0


# --- the order


@pytest.mark.parametrize("num_tasks", range(1, 9))
def test_every_task_meets_every_other_once(num_tasks: int) -> None:
    for step in range(20):
        order = draw_order(num_tasks, 7, step)
        assert order.shape == (num_tasks, num_tasks - 1)
        assert order.dtype == torch.int64
        for task, others in enumerate(order.tolist()):
            assert sorted([task, *others]) == list(range(num_tasks))


def test_the_order_is_that_of_the_seed_and_step_alone() -> None:
    first = draw_order(5, 3, 11)
    torch.rand(3)  # draws from the global generator
    assert torch.equal(draw_order(5, 3, 11), first)
    assert not torch.equal(draw_order(5, 3, 12), first)
    assert not torch.equal(draw_order(5, 4, 11), first)


def test_the_order_is_the_same_in_every_version() -> None:
    assert draw_order(4, 1, 7).tolist() == [[1, 3, 2], [2, 0, 3], [3, 0, 1], [1, 2, 0]]


def test_all_orders_of_all_tasks_are_equally_likely() -> None:
    drawn = [tuple(draw_order(3, 5, step).flatten().tolist()) for step in range(4000)]
    counts = [drawn.count(order) for order in set(drawn)]
    assert len(counts) == 8
    # 500 each, with a standard deviation of 21.
    assert 400 < min(counts) <= max(counts) < 600


def test_a_step_has_the_order_of_its_seed_and_number() -> None:
    gram, labelled, found = gram_matrix(IN_ORDER), torch.ones(3, dtype=torch.bool), set()
    for step in range(20):
        weighting, _ = weigh_tasks(Evidence(step, 9, labelled, gram=gram), {})
        expected = pcgrad_coefficients(gram, draw_order(3, 9, step))
        found.add(tuple(expected.coefficients.tolist()))
        assert torch.equal(weighting.coefficients, expected.coefficients)
        assert torch.equal(weighting.weights, expected.coefficients)
        assert torch.equal(weighting.diagnostics["share_kept"], expected.shares_kept)
    assert len(found) > 1
