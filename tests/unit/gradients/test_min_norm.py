import torch
from hypothesis import given, settings
from torch import Tensor

from recsys_mtl.gradients import gram_matrix, min_norm
from recsys_mtl.gradients.reference import _min_norm_weights
from tests.unit.gradients.sampling import gradient_sets

float64_sets = gradient_sets(torch.float64)


def smallest_norm(gradients: Tensor) -> Tensor:
    norms = gradients.square().sum(dim=1).sqrt()
    return norms[norms > 0].amin()


def test_min_norm_of_a_hand_checked_pair() -> None:
    gram = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(min_norm(gram), torch.tensor([0.75, 0.25], dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(gradients=float64_sets)
def test_weights_are_a_convex_combination(gradients: Tensor) -> None:
    weights = min_norm(gram_matrix(gradients))
    assert (weights >= 0).all()
    torch.testing.assert_close(float(weights.sum()), 1.0)
    assert not weights[~gradients.any(dim=1)].any()


def point_accuracy(weights: Tensor, gradients: Tensor) -> Tensor:
    """How far off the point may lie: a Gram holds squares, so where long gradients cancel to a
    point 1e-11 of their length (measured over 6,000 sets), it cannot tell it from zero."""
    longest = (weights[:, None] * gradients).norm(dim=1).amax()
    return 1e-8 * smallest_norm(gradients) + 1e-10 * longest


@settings(max_examples=60, deadline=None)
@given(gradients=float64_sets)
def test_no_gradient_reaches_below_the_point_found(gradients: Tensor) -> None:
    # The optimality condition of the hull: p . g_i >= p . p for each of its corners.
    weights = min_norm(gram_matrix(gradients))
    point = weights @ gradients
    shortfall = point @ point - gradients @ point
    allowed = point_accuracy(weights, gradients) * gradients.norm(dim=1)
    assert (shortfall <= allowed)[gradients.any(dim=1)].all()


@settings(max_examples=40, deadline=None)
@given(gradients=gradient_sets(torch.float64, max_tasks=6))
def test_point_equals_the_best_over_all_sets_of_tasks(gradients: Tensor) -> None:
    weights = min_norm(gram_matrix(gradients))
    best = _min_norm_weights(gradients, zero_sine_squared=0.0) @ gradients
    distance = (weights @ gradients - best).norm()
    assert distance <= 100 * point_accuracy(weights, gradients)


def test_shorter_gradient_wins_among_parallel_ones() -> None:
    gradients = torch.tensor([[1e4, 0.0], [1e-4, 0.0], [3.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(min_norm(gram_matrix(gradients)), expected)


def test_opposite_gradients_cancel() -> None:
    gradients = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    weights = min_norm(gram_matrix(gradients))
    assert float((weights @ gradients).norm()) < 1e-15


def test_tasks_without_a_gradient_have_no_weight() -> None:
    gram = torch.diag(torch.tensor([0.0, 2.0, 0.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(
        min_norm(gram), torch.tensor([0.0, 0.5, 0.0, 0.5], dtype=torch.float64)
    )
    assert not min_norm(torch.zeros(3, 3, dtype=torch.float64)).any()


def test_near_parallel_gradients_are_not_taken_in_on_rounding() -> None:
    # Five gradients in a plane, three of them almost opposite to the first. Taking in one that
    # seems to help by rounding alone makes the next linear system singular, and the weights NaN.
    norms = torch.tensor(
        [1.0000000000000002, 1.0, 0.9986684013997289, 1.0016747091450244, 0.998240482875929],
        dtype=torch.float64,
    )
    cosines = {
        (0, 1): 0.49563600995957813,
        (0, 2): -0.99999905188537230,
        (0, 3): -0.99999956961659131,
        (0, 4): -0.99999971401752807,
        (1, 2): -0.49683153764703836,
        (1, 3): -0.49644159746386862,
        (1, 4): -0.49497901297919750,
        (2, 3): 0.99999989908215214,
        (2, 4): 0.99999772447339008,
        (3, 4): 0.99999858197316538,
    }
    correlation = torch.eye(5, dtype=torch.float64)
    for (i, j), cosine in cosines.items():
        correlation[i, j] = correlation[j, i] = cosine
    gram = correlation * torch.outer(norms, norms)
    weights = min_norm(gram)
    point_norm_squared = weights @ gram @ weights
    assert (gram @ weights >= point_norm_squared - 1e-12).all()
