import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from recsys_mtl.gradients import gram_matrix, min_norm
from recsys_mtl.gradients.methods.cagrad import cagrad_coefficients, weigh_tasks
from recsys_mtl.gradients.methods.contract import Evidence
from tests.unit.gradients.methods.grams import fresh_generator, well_conditioned
from tests.unit.gradients.sampling import gradient_sets, unit_rows

float64_sets = gradient_sets(torch.float64)
any_c = st.floats(0, 0.99)


def mean_of(gradients: Tensor) -> Tensor:
    """g_0 [P] over the tasks with a gradient."""
    return gradients.sum(dim=0) / gradients.any(dim=1).sum().clamp(min=1)


def dual_value(gradients: Tensor, shares: Tensor, c: float) -> float:
    """F(w) = g_w . g_0 + c |g_0| |g_w|."""
    mean, leaning = mean_of(gradients), shares @ gradients
    return float(leaning @ mean + c * mean.norm() * leaning.norm())


def smallest_by_slsqp(gradients: Tensor, c: float) -> float:
    """F at the best of three starts of scipy's SLSQP, over the tasks with a gradient."""
    present = gradients[gradients.any(dim=1)]
    mean, num_tasks = mean_of(present), len(present)
    scale = float(present.norm(dim=1).max() * mean.norm()) or 1.0
    gram, b = (present @ present.T).numpy() / scale, (present @ mean).numpy() / scale
    radius = c * float(mean.norm()) / scale**0.5

    def objective(w: np.ndarray) -> float:
        return float(w @ b + radius * np.sqrt(max(float(w @ gram @ w), 0.0)))

    starts = [
        np.full(num_tasks, 1 / num_tasks),
        *np.random.default_rng(0).dirichlet([1] * num_tasks, 2),
    ]
    limits = {"type": "eq", "fun": lambda w: w.sum() - 1}
    found = [
        minimize(objective, x, bounds=[(0, 1)] * num_tasks, constraints=limits, method="SLSQP")
        for x in starts
    ]
    feasible = [f.x.clip(0) / f.x.clip(0).sum() for f in found]
    return scale * min(objective(w) for w in feasible)


def best_by_cone(gradients: Tensor, c: float) -> float:
    """The most that an update of the ball can give the worst-off task, as a cone programme.

    SLSQP stops early where F has a kink, as it has where a combination vanishes.
    """
    mean = mean_of(gradients).numpy()
    update, gain = cvxpy.Variable(len(mean)), cvxpy.Variable()
    limits = [
        gradients.numpy() @ update >= gain,
        cvxpy.norm(update - mean) <= c * np.linalg.norm(mean),
    ]
    cvxpy.Problem(cvxpy.Maximize(gain), limits).solve(solver="CLARABEL")
    return float(gain.value)


def test_coefficients_of_a_hand_checked_pair() -> None:
    found = cagrad_coefficients(torch.eye(2, dtype=torch.float64), c=0.5)
    assert found.shares.tolist() == pytest.approx([0.5, 0.5])
    assert found.coefficients.tolist() == pytest.approx([0.75, 0.75])


@settings(max_examples=30, deadline=None)
@given(gradients=float64_sets, c=any_c)
def test_the_update_lies_in_its_ball(gradients: Tensor, c: float) -> None:
    found, mean = cagrad_coefficients(gram_matrix(gradients), c=c), mean_of(gradients)
    away = found.coefficients @ gradients - mean
    largest = (found.coefficients[:, None] * gradients).norm(dim=1).sum()
    assert away.norm() <= c * mean.norm() + 1e-11 * largest
    assert (found.coefficients >= 0).all()
    assert not found.coefficients[~gradients.any(dim=1)].any()


@pytest.mark.parametrize("kind", ["like norms", "norms apart", "duplicate and opposite"])
def test_the_worst_off_task_gains_what_the_dual_problem_allows(kind: str) -> None:
    generator = fresh_generator()
    for trial in range(12):
        num_tasks = 2 + trial % 5
        gradients = well_conditioned(num_tasks, generator)
        if kind == "norms apart":
            exponents = 4 * torch.rand(num_tasks, 1, generator=generator, dtype=torch.float64)
            gradients *= 10 ** (exponents - 2)
        elif kind == "duplicate and opposite":
            gradients[-1] = gradients[0] if trial % 2 else -2 * gradients[0]
        c = float(torch.rand((), generator=generator))
        gram = gram_matrix(gradients)
        found = cagrad_coefficients(gram, c=c)
        scale = float(mean_of(gradients).norm() * gradients.norm(dim=1).max())
        dual = min(dual_value(gradients, shares, c) for shares in (found.shares, min_norm(gram)))
        assert dual <= smallest_by_slsqp(gradients, c) + 1e-9 * scale
        # No update of the ball gives the worst-off task more than any dual value.
        gain = float((gradients @ (found.coefficients @ gradients)).min())
        assert gain == pytest.approx(dual, rel=1e-6, abs=1e-9 * scale)


def test_c_0_is_the_mean_gradient() -> None:
    gradients = well_conditioned(3, fresh_generator())
    found = cagrad_coefficients(gram_matrix(gradients), c=0.0).coefficients
    torch.testing.assert_close(found, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_where_a_combination_vanishes_the_update_is_still_the_best_of_its_ball() -> None:
    """The last gradient takes back a mixture of the others. Where the ball is large enough for an
    update that opposes no task, the paper's formula is 0 / 0."""
    generator = fresh_generator()
    for _ in range(20):
        gradients = torch.randn(3, 6, generator=generator, dtype=torch.float64)
        mixture = torch.rand(2, generator=generator, dtype=torch.float64)
        gradients[2] = -(mixture @ gradients[:2])
        c = 0.99 * float(torch.rand((), generator=generator))
        found = cagrad_coefficients(gram_matrix(gradients), c=c, zero_sine_squared=1e-13)
        update, mean = found.coefficients @ gradients, mean_of(gradients)
        assert (update - mean).norm() <= c * mean.norm() + 1e-9
        scale = float(mean.norm() * gradients.norm(dim=1).max())
        assert float((gradients @ update).min()) >= best_by_cone(gradients, c) - 1e-6 * scale


def test_a_larger_ball_has_a_better_best() -> None:
    generator = fresh_generator()
    for _ in range(20):
        gradients = well_conditioned(4, generator)
        gram = gram_matrix(gradients)
        found = [cagrad_coefficients(gram, c=c).coefficients for c in (0.0, 0.3, 0.6, 0.9)]
        gains = [float((gram @ coefficients).min()) for coefficients in found]
        assert gains == sorted(gains)


@pytest.mark.parametrize(
    ("tasks", "c", "said"),
    [
        (2, 1.0, "c is 1.0; it must be at least 0 and below 1."),
        (2, -0.1, "c is -0.1; it must be at least 0 and below 1."),
        (2, float("nan"), "c is nan; it must be at least 0 and below 1."),
        (9, 0.5, "gram has 9 tasks; CAGrad weighs at most 8."),
    ],
)
def test_what_cannot_be_solved_is_refused(tasks: int, c: float, said: str) -> None:
    with pytest.raises(ValueError, match=r"c is|gram has") as refused:
        cagrad_coefficients(torch.eye(tasks, dtype=torch.float64), c=c)
    assert str(refused.value) == said


def test_a_step_reports_who_is_worst_off() -> None:
    gradients = torch.tensor([[3.0, 0.0], [-1.0, 0.5]], dtype=torch.float64)
    gram = gram_matrix(gradients)
    weighting, state = weigh_tasks(Evidence(0, 0, torch.ones(2).bool(), gram=gram), {}, c=0.5)
    update, mean = weighting.coefficients @ gradients, mean_of(gradients)
    assert torch.equal(weighting.weights, weighting.coefficients)
    worst = float((gradients @ update).min() / mean.square().sum())
    assert float(weighting.diagnostics["worst_gain"]) == pytest.approx(worst)
    assert weighting.diagnostics["worst_share"].argmax() == (unit_rows(gradients) @ update).argmin()
    assert state == {}
