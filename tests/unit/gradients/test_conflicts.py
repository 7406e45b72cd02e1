"""Pairs of tasks that conflict, counted from the products of their gradients."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from recsys_mtl.gradients.conflicts import count_conflicts


def counts_of(gradients: Tensor, threshold: float) -> tuple[list[int], list[int]]:
    """Of gradients [L, T, P], by their Gram matrices."""
    wide = gradients.double()
    found = count_conflicts(wide @ wide.mT, threshold)
    return found.conflicting.tolist(), found.compared.tolist()


def test_hand_checked_pairs() -> None:
    gradients = torch.tensor([[[1.0, 0.0], [-1.0, 1.0], [0.0, 0.0]]])
    assert counts_of(gradients, 0.0) == ([1], [1])
    assert counts_of(gradients, -0.7) == ([1], [1])
    assert counts_of(gradients, -0.71) == ([0], [1]), "the cosine is -0.7071"


@pytest.mark.parametrize("threshold", [0.0, -0.02, -0.5, -0.99])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_counts_are_those_of_each_pair_s_cosine_whatever_the_norms(
    threshold: float, scale: float
) -> None:
    print("seed", torch.seed())
    directions = torch.randn(5, 4, 3).double()
    norms = 10.0 ** torch.randint(-4, 5, (5, 4, 1)).double() * scale
    expected = [
        sum(
            float(layer[i] @ layer[j] / layer[i].norm() / layer[j].norm()) < threshold
            for i, j in itertools.combinations(range(4), 2)
        )
        for layer in directions
    ]
    assert counts_of(directions * norms, threshold) == (expected, [6] * 5)


def test_orthogonal_gradients_do_not_conflict_at_zero() -> None:
    assert counts_of(torch.eye(3)[None], 0.0) == ([0], [3])


def test_a_task_without_a_gradient_is_in_no_pair() -> None:
    gradients = -torch.eye(4, 8)[None] + 0.5 * torch.ones(1, 4, 8)
    gradients[:, 2] = 0.0
    assert counts_of(gradients, 0.0)[1] == [3]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gram_that_is_not_finite_counts_nothing_and_leaves_other_layers_alone(
    value: float,
) -> None:
    gram = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double().repeat(2, 1, 1)
    gram[0, 1, 1] = value
    found = count_conflicts(gram, 0.0)
    assert (found.conflicting.tolist(), found.compared.tolist()) == ([0, 1], [0, 1])


def test_nothing_shared_has_no_counts() -> None:
    assert counts_of(torch.zeros(0, 3, 5), 0.0) == ([], [])
