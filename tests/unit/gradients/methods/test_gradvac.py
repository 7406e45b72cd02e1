import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_mtl.gradients import gram_matrix
from recsys_mtl.gradients.methods.contract import Evidence, MethodState
from recsys_mtl.gradients.methods.gradvac import (
    gradvac_coefficients,
    initial_state,
    weigh_tasks,
)
from recsys_mtl.gradients.methods.pcgrad import draw_order, pcgrad_coefficients
from tests.unit.gradients.methods.grams import fresh_generator, well_conditioned
from tests.unit.gradients.sampling import gradient_sets

steps = st.integers(0, 10**6)


def gradvac_on_vectors(
    gradients: Tensor, order: Tensor, targets: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 as it is written: the turned gradients [T, P] and the next targets [T, T]."""
    turned, targets = gradients.clone(), targets.clone()
    for i, vector in enumerate(turned):
        for j in order[i].tolist():
            other, target = gradients[j], float(targets[i, j])
            cosine = float(vector @ other / (vector.norm() * other.norm()))
            if cosine < target:
                excess = target * (1 - cosine**2) ** 0.5 - cosine * (1 - target**2) ** 0.5
                vector += vector.norm() * excess / (other.norm() * (1 - target**2) ** 0.5) * other
            targets[i, j] = (1 - beta) * target + beta * cosine
    return turned, targets


def drawn_targets(num_tasks: int, generator: torch.Generator) -> Tensor:
    return 1.6 * torch.rand(num_tasks, num_tasks, generator=generator, dtype=torch.float64) - 0.8


def test_coefficients_of_a_hand_checked_pair() -> None:
    order, targets = torch.tensor([[1], [0]]), torch.full((2, 2), 0.6, dtype=torch.float64)
    found = gradvac_coefficients(torch.eye(2, dtype=torch.float64), order, targets, beta=0.5)
    assert found.coefficients.tolist() == pytest.approx([1.75, 1.75])
    assert found.growth.tolist() == pytest.approx([1.25, 1.25])
    assert found.targets.tolist() == [[0.6, pytest.approx(0.3)], [pytest.approx(0.3), 0.6]]


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 5, 8])
def test_it_is_algorithm_1_on_vectors(num_tasks: int) -> None:
    generator = fresh_generator()
    for step in range(30):
        gradients = well_conditioned(num_tasks, generator)
        order, targets = draw_order(num_tasks, 0, step), drawn_targets(num_tasks, generator)
        turned, next_targets = gradvac_on_vectors(gradients, order, targets, 0.3)
        found = gradvac_coefficients(gram_matrix(gradients), order, targets, beta=0.3)
        torch.testing.assert_close(found.coefficients @ gradients, turned.sum(dim=0))
        torch.testing.assert_close(found.growth, turned.norm(dim=1) / gradients.norm(dim=1))
        torch.testing.assert_close(found.targets, next_targets)
        assert (found.coefficients >= 1 - 1e-12).all()


def test_a_turn_reaches_its_target_and_no_other_is_turned() -> None:
    generator = fresh_generator()
    for _ in range(30):
        gradients, targets = well_conditioned(2, generator), drawn_targets(2, generator)
        unit = torch.nn.functional.normalize(gradients, dim=1)
        cosine, order = float(unit[0] @ unit[1]), torch.tensor([[1], [0]])
        turned, _ = gradvac_on_vectors(gradients, order, targets, 0.5)
        reached = torch.nn.functional.normalize(turned, dim=1)
        for i, j in ((0, 1), (1, 0)):
            assert float(reached[i] @ unit[j]) == pytest.approx(max(cosine, float(targets[i, j])))


@settings(max_examples=50, deadline=None)
@given(gradients=gradient_sets(torch.float64), step=steps)
def test_with_targets_of_0_it_is_pcgrad(gradients: Tensor, step: int) -> None:
    gram, order = gram_matrix(gradients), draw_order(len(gradients), 0, step)
    found = gradvac_coefficients(gram, order, torch.zeros_like(gram), beta=0.0)
    expected = pcgrad_coefficients(gram, order).coefficients
    # A gradient projected to nothing is left there; PCGrad projects its rounding once more.
    norms = gradients.norm(dim=1)
    allowed = torch.where(norms > 0, 2e-4 * norms.sum() / norms, 0.0)
    assert ((found.coefficients - expected).abs() <= allowed).all()
    assert not found.targets.any()


@settings(max_examples=50, deadline=None)
@given(gradients=gradient_sets(torch.float64), step=steps, seed=st.integers(0, 2**32 - 1))
def test_coefficients_and_targets_stay_finite_whatever_the_gradients(
    gradients: Tensor, step: int, seed: int
) -> None:
    num_tasks = len(gradients)
    targets = 2.2 * torch.rand(num_tasks, num_tasks).double() - 1.1
    targets = targets.clamp(-1.0, 1.0)  # some are 1 exactly, which no turn can reach
    order = draw_order(num_tasks, seed, step)
    found = gradvac_coefficients(gram_matrix(gradients), order, targets)
    assert found.coefficients.isfinite().all()
    assert (found.coefficients >= gradients.any(dim=1).double() - 1e-9).all()
    assert (found.targets.abs() <= 1).all()


def test_targets_of_pairs_without_labels_do_not_move() -> None:
    generator = fresh_generator()
    gradients, targets = well_conditioned(3, generator), drawn_targets(3, generator)
    gradients[1] = 0.0
    order = draw_order(3, 0, 0)
    found = gradvac_coefficients(gram_matrix(gradients), order, targets)
    moved = found.targets != targets
    assert moved.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    two = gradvac_coefficients(
        gram_matrix(gradients[[0, 2]]), torch.tensor([[1], [0]]), targets[[0, 2]][:, [0, 2]]
    )
    assert found.coefficients[1] == found.growth[1] == 0
    torch.testing.assert_close(found.coefficients[[0, 2]], two.coefficients)
    torch.testing.assert_close(found.targets[[0, 2]][:, [0, 2]], two.targets)


def evidence_of(generator: torch.Generator, step: int) -> Evidence:
    gram = gram_matrix(well_conditioned(3, generator))
    return Evidence(step, 7, torch.ones(3, dtype=torch.bool), gram=gram)


def test_a_run_from_saved_state_goes_on_to_the_same_bits() -> None:
    generator = fresh_generator()
    evidence = [evidence_of(generator, step) for step in range(6)]

    def walk(state: MethodState, steps: list[Evidence]) -> tuple[list[list[float]], MethodState]:
        found = []
        for seen in steps:
            weighting, state = weigh_tasks(seen, state)
            found.append(weighting.coefficients.tolist())
        return found, state

    whole, last = walk(initial_state(3), evidence)
    first, state = walk(initial_state(3), evidence[:3])
    file = io.BytesIO()
    torch.save(dict(state), file)
    file.seek(0)
    second, restored = walk(torch.load(file), evidence[3:])
    assert first + second == whole
    assert torch.equal(restored["targets"], last["targets"])
    assert last["targets"].any()


def test_a_step_reports_the_cosines_it_aims_at() -> None:
    targets = torch.tensor([[0.0, 0.2, 0.4], [0.1, 0.0, 0.3], [-0.5, 0.5, 0.0]]).double()
    weighting, _ = weigh_tasks(evidence_of(fresh_generator(), 0), {"targets": targets})
    assert weighting.diagnostics["target_cosine"].tolist() == pytest.approx([0.3, 0.2, 0.0])
    assert torch.equal(weighting.weights, weighting.coefficients)


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_a_beta_out_of_range_is_refused(beta: float) -> None:
    gram = torch.eye(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"beta is .*; it must be from 0 to 1"):
        gradvac_coefficients(gram, torch.tensor([[1], [0]]), torch.zeros_like(gram), beta=beta)
