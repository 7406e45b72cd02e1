"""What every method of the Gram owes to its caller, whichever it is."""

from typing import Any, get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_mtl.gradients import GramMethod, gram_matrix, task_coefficients
from recsys_mtl.gradients.methods.gradvac import gradvac_coefficients
from recsys_mtl.gradients.methods.pcgrad import draw_order
from tests.unit.gradients.sampling import gradient_sets, smallest_sine

KINDS: tuple[GramMethod, ...] = get_args(GramMethod)
DRAWN = ("pcgrad", "pcgrad_dw", "gradvac")
"""Methods whose projections have a drawn order; their own tests turn it with the tasks."""
UNSCALED = ("dw", "pcgrad_dw")
"""Methods whose weights depend on the length of the gradients."""
float64_sets = gradient_sets(torch.float64)


def coefficients_of(kind: GramMethod, gradients: Tensor, **others: Any) -> Tensor:
    if kind == "gradops":
        others |= {"alpha": -1.0}
    if kind == "gradops_static":
        others |= {"weights": [1.0] * len(gradients)}
    return task_coefficients(kind, gram_matrix(gradients), **others)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in DRAWN])
@settings(max_examples=15, deadline=None)
@given(gradients=float64_sets, data=st.data())
def test_the_order_of_tasks_does_not_matter(
    kind: GramMethod, gradients: Tensor, data: st.DataObject
) -> None:
    assume(smallest_sine(gradients) > 1e-3)
    places = torch.tensor(data.draw(st.permutations(range(len(gradients)))))
    found, turned = coefficients_of(kind, gradients), coefficients_of(kind, gradients[places])
    # Of dependent gradients the update is unique, the coefficients are not.
    difference = found @ gradients - turned @ gradients[places]
    terms = (found[:, None] * gradients).norm(dim=1).sum()
    assert difference.norm() <= 1e-6 * terms


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in UNSCALED])
@settings(max_examples=10, deadline=None)
@given(gradients=float64_sets, exponent=st.integers(-60, 60))
def test_scaling_all_gradients_scales_the_update(
    kind: GramMethod, gradients: Tensor, exponent: int
) -> None:
    found, scaled = (coefficients_of(kind, gradients * 2.0**k) for k in (0, exponent))
    torch.testing.assert_close(scaled, found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(gradients=gradient_sets(torch.float64, max_tasks=7), seed=st.integers(0, 2**32 - 1))
def test_the_others_are_as_if_a_zero_gradient_were_not_there(
    kind: GramMethod, gradients: Tensor, seed: int
) -> None:
    padded = torch.cat([gradients, torch.zeros_like(gradients[:1])])
    found = coefficients_of(kind, padded, seed=seed)
    assert found[-1] == 0
    if kind in DRAWN:
        return  # their orders are other ones then; their own tests leave the task out of the order
    expected = coefficients_of(kind, gradients, seed=seed)
    difference = (found[:-1] - expected) @ gradients
    terms = (expected[:, None] * gradients).norm(dim=1).sum()
    assert difference.norm() <= 1e-6 * terms


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rows",
    [
        [[1.0, 2.0]],
        [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]],
        [[1.0, 2.0], [-1.0, -2.0]],
        [[1.0, 2.0], [-1e-6, -2e-6], [0.0, 0.0]],
        [[0.0, 0.0], [0.0, 0.0]],
        [[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8], [1.0, 0.0]],
    ],
    ids=["alone", "duplicates", "opposite", "a small opposite", "nothing", "all around"],
)
def test_degenerate_gradients_have_finite_coefficients(
    kind: GramMethod, rows: list[list[float]]
) -> None:
    gradients = torch.tensor(rows, dtype=torch.float64)
    found = coefficients_of(kind, gradients)
    assert found.isfinite().all()
    assert not found[~gradients.any(dim=1)].any()
    if len(rows) == 1:
        assert found.tolist() == pytest.approx([1.5 if kind == "cagrad" else 1.0])


@pytest.mark.parametrize(
    ("kind", "hyperparameters", "error", "said"),
    [
        ("nash", {}, ValueError, "kind is 'nash'; it must be one of gradops, gradops_static, dw, "),
        ("mgda", {"alpha": 1.0}, TypeError, "mgda has no hyperparameter 'alpha'; it has zero_sine"),
        ("cagrad", {"order": 1}, TypeError, "cagrad has no hyperparameter 'order'; it has c, zero"),
        ("pcgrad", {"c": 0.5}, TypeError, "pcgrad has no hyperparameter 'c'; it has none."),
        ("gradops", {}, TypeError, "gradops needs the hyperparameter 'alpha', which has no"),
        ("cagrad", {"c": 2.0}, ValueError, "c is 2.0; it must be at least 0 and below 1."),
        (
            "gradvac",
            {"targets": torch.zeros(3)},
            ValueError,
            "targets has shape (3,); it must have",
        ),
        ("dw", {"alpha": float("inf")}, ValueError, "alpha is inf; it must be a finite number."),
    ],
)
def test_what_a_method_does_not_take_is_refused(
    kind: Any, hyperparameters: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as refused:
        task_coefficients(kind, torch.eye(2, dtype=torch.float64), **hyperparameters)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("gram", "error", "said"),
    [
        (torch.eye(2), TypeError, "gram has dtype torch.float32; pass float64"),
        (torch.zeros(2, 3).double(), ValueError, "gram has shape (2, 3); it must be [T, T]"),
        (torch.eye(2).double() * torch.nan, ValueError, "gram has an infinite or NaN entry"),
    ],
    ids=["dtype", "shape", "not finite"],
)
def test_what_is_no_gram_is_refused(
    kind: GramMethod, gram: Tensor, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as refused:
        task_coefficients(kind, gram)
    assert str(refused.value).startswith(said)


def test_another_seed_draws_another_order() -> None:
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    gram = gram_matrix(gradients)
    found = {tuple(task_coefficients("pcgrad", gram, seed=seed).tolist()) for seed in range(20)}
    assert len(found) > 1


def test_a_stateful_method_goes_on_from_what_it_is_given() -> None:
    gram = gram_matrix(torch.tensor([[1.0, 0.0], [0.2, 1.0]], dtype=torch.float64))
    targets = torch.full_like(gram, 0.5)
    expected = gradvac_coefficients(gram, draw_order(2, 3, 0), targets)
    assert torch.equal(
        task_coefficients("gradvac", gram, seed=3, targets=targets), expected.coefficients
    )
    assert task_coefficients("gradvac", gram, seed=3).tolist() == [1.0, 1.0]  # nothing conflicts
