import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from recsys_mtl.gradients import gram_matrix
from recsys_mtl.gradients.methods.contract import Evidence
from recsys_mtl.gradients.methods.imtl_g import imtl_g_coefficients, weigh_tasks
from tests.unit.gradients.methods.grams import fresh_generator, well_conditioned
from tests.unit.gradients.sampling import gradient_sets, smallest_sine, unit_rows

# The two outer gradients lean away from the middle one's direction, so that it must be subtracted;
# being short, it has the largest coefficient, and all of them a negative sum.
REVERSED = torch.tensor([[10.0, 30.0, 0.0], [10.0, -30.0, 0.0], [0.1, 0.0, 0.01]]).double()


def imtl_g_as_published(gradients: Tensor) -> Tensor:
    """The paper's closed form, with the first task as the one the others are compared to."""
    units = torch.nn.functional.normalize(gradients, dim=1)
    differences, unit_differences = gradients[:1] - gradients[1:], units[:1] - units[1:]
    system = differences @ unit_differences.T
    others = torch.linalg.solve(system.T, unit_differences @ gradients[0])
    return torch.cat([1 - others.sum(dim=0, keepdim=True), others])


def test_coefficients_of_a_hand_checked_pair() -> None:
    gram = torch.tensor([[1.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    found = imtl_g_coefficients(gram)
    assert found.coefficients.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert float(found.projection) == pytest.approx(2 / 3)


@settings(max_examples=40, deadline=None)
@given(gradients=gradient_sets(torch.float64))
def test_the_products_with_all_directions_are_equal_and_none_is_negative(gradients: Tensor) -> None:
    found = imtl_g_coefficients(gram_matrix(gradients), zero_sine_squared=1e-13)
    terms = found.coefficients[:, None] * gradients
    present, sine = gradients.any(dim=1), smallest_sine(gradients)
    products = (unit_rows(gradients) @ terms.sum(dim=0))[present]
    accuracy = (1e-12 / sine + 1e-7 * (sine < 1e-4)) * terms.norm(dim=1).sum()
    assert ((products - found.projection).abs() <= accuracy).all()
    assert found.projection >= 0
    total = float(found.coefficients.sum())
    expected = 0.0 if not found.coefficients.any() else -1.0 if found.is_reversed else 1.0
    assert total == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("num_tasks", [2, 3, 5, 8])
def test_it_is_the_published_form_or_its_opposite(num_tasks: int) -> None:
    generator = fresh_generator()
    for _ in range(30):
        gradients = well_conditioned(num_tasks, generator)
        found, published = (
            imtl_g_coefficients(gram_matrix(gradients)),
            imtl_g_as_published(gradients),
        )
        opposes = bool((gradients @ (published @ gradients) < 0).all())
        assert bool(found.is_reversed) == opposes
        torch.testing.assert_close(found.coefficients, -published if opposes else published)


def test_where_the_published_form_goes_against_every_task_its_opposite_is_taken() -> None:
    published = imtl_g_as_published(REVERSED)
    assert (REVERSED @ (published @ REVERSED) < 0).all()
    found = imtl_g_coefficients(gram_matrix(REVERSED))
    assert bool(found.is_reversed)
    assert float(found.coefficients.sum()) == pytest.approx(-1.0)
    torch.testing.assert_close(found.coefficients, -published)


def test_two_tasks_are_never_reversed() -> None:
    generator = fresh_generator()
    for _ in range(100):
        gradients = torch.randn(2, 3, generator=generator, dtype=torch.float64)
        found = imtl_g_coefficients(gram_matrix(gradients))
        assert not found.is_reversed
        assert (found.coefficients > 0).all()


def test_duplicates_share_what_one_of_them_would_have() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]], dtype=torch.float64)
    found = imtl_g_coefficients(gram_matrix(gradients))
    first, second = imtl_g_coefficients(gram_matrix(gradients[:2])).coefficients.tolist()
    assert found.coefficients.tolist() == pytest.approx([first / 2, second, first / 2])


@pytest.mark.parametrize(
    "rows",
    [
        [[1.0, 0.0], [-3.0, 0.0]],
        [[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]],
        [[0.0, 0.0], [0.0, 0.0]],
    ],
    ids=["opposite", "three in a plane", "nothing"],
)
def test_the_step_is_zero_where_no_direction_is_impartial(rows: list[list[float]]) -> None:
    found = imtl_g_coefficients(gram_matrix(torch.tensor(rows, dtype=torch.float64)))
    assert found.coefficients.tolist() == [0.0] * len(rows)
    assert float(found.projection) == 0.0
    assert not found.is_reversed


def test_weights_outside_the_gram_are_the_positive_part_with_the_sum_1() -> None:
    gram = gram_matrix(REVERSED)
    weighting, state = weigh_tasks(Evidence(0, 0, torch.ones(3).bool(), gram=gram), {})
    positive = weighting.coefficients.clamp(min=0.0)
    assert (weighting.coefficients < 0).any()
    torch.testing.assert_close(weighting.weights, positive / positive.sum())
    assert weighting.diagnostics["reversed"]
    assert float(weighting.diagnostics["projection"]) > 0
    assert state == {}
    nothing = Evidence(0, 0, torch.zeros(3).bool(), gram=torch.zeros_like(gram))
    assert not weigh_tasks(nothing, {})[0].weights.any()
