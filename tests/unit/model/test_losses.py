"""Losses are shares of the mean over all labelled rows of all workers."""

import math

import pytest
import torch
from torch import Tensor

from recsys_mtl.model.losses import task_losses

# B batch rows, T tasks


def draw_batch(num_rows: int, num_tasks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and label mask, [B, T] each; every task has a labelled row."""
    print("seed", torch.seed())
    logits = 3 * torch.randn(num_rows, num_tasks, dtype=torch.float64)
    labels = (torch.rand(num_rows, num_tasks) < 0.3).float()
    mask = torch.rand(num_rows, num_tasks) < 0.6
    mask[0] = True
    return logits, labels, mask


def mean_cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor) -> list[float]:
    """By the definition, row by row."""
    means = []
    for task in range(logits.shape[1]):
        losses = []
        for row in mask[:, task].nonzero()[:, 0].tolist():
            probability = 1 / (1 + math.exp(-logits[row, task].item()))
            hit = probability if labels[row, task] == 1 else 1 - probability
            losses.append(-math.log(hit))
        means.append(sum(losses) / len(losses))
    return means


def test_shares_of_uneven_workers_add_up_to_the_mean_over_labelled_rows() -> None:
    logits, labels, mask = draw_batch(50, 3)
    counts = mask.sum(dim=0)
    shares = torch.zeros(3, dtype=torch.float64)
    for rows in (slice(0, 1), slice(1, 7), slice(7, 50)):
        shares += task_losses(logits[rows], labels[rows], mask[rows], counts)
    assert shares.tolist() == pytest.approx(mean_cross_entropy(logits, labels, mask), rel=1e-9)


def test_gradient_is_prediction_minus_label_over_the_global_count_and_0_where_masked() -> None:
    logits, labels, mask = draw_batch(20, 2)
    logits.requires_grad_()
    counts = mask.sum(dim=0) + 5  # five more on other workers
    (gradient,) = torch.autograd.grad(task_losses(logits, labels, mask, counts).sum(), logits)
    expected = (logits.detach().sigmoid() - labels) / counts * mask
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("filler", [-1.0, 7.0, 1e30])
def test_what_stands_in_a_masked_label_does_not_matter(filler: float) -> None:
    logits, labels, mask = draw_batch(20, 2)
    counts = mask.sum(dim=0)
    expected = task_losses(logits, labels, mask, counts)
    assert torch.equal(task_losses(logits, labels.where(mask, filler), mask, counts), expected)


def test_a_task_without_any_labelled_row_has_loss_and_gradient_zero() -> None:
    logits, labels, mask = draw_batch(10, 2)
    logits.requires_grad_()
    mask[:, 1] = False
    losses = task_losses(logits, labels, mask, mask.sum(dim=0))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses[1] == 0
    assert not gradient[:, 1].any()
    assert losses[0] > 0


def test_extreme_logits_have_finite_losses() -> None:
    logits = torch.tensor([[1000.0, -1000.0]])
    labels = torch.tensor([[0.0, 0.0]])
    losses = task_losses(logits, labels, torch.ones(1, 2, dtype=torch.bool), torch.ones(2))
    assert losses.tolist() == [1000.0, 0.0]


def test_a_masked_row_that_is_not_finite_touches_nothing() -> None:
    logits = torch.tensor([[torch.nan, torch.inf], [0.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[False, False], [True, True]])
    losses = task_losses(logits, torch.zeros(2, 2), mask, torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(losses, torch.full((2,), math.log(2)))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.0], [0.5, 0.5]]))


def test_weights_count_a_row_as_often_as_they_say_on_every_worker() -> None:
    logits, labels, mask = draw_batch(50, 3)
    weights = torch.randint(1, 4, mask.shape) * mask
    shares = torch.zeros(3, dtype=torch.float64)
    for rows in (slice(0, 1), slice(1, 7), slice(7, 50)):
        given = (logits[rows], labels[rows], mask[rows], weights.sum(dim=0), weights[rows])
        shares += task_losses(*given)
    for task in range(3):
        repeated = torch.repeat_interleave(torch.arange(50), weights[:, task])
        (expected,) = mean_cross_entropy(
            logits[repeated, task, None], labels[repeated, task, None], mask[repeated, task, None]
        )
        assert shares[task].item() == pytest.approx(expected, rel=1e-9)


def test_the_scale_of_all_weights_does_not_matter_however_small_their_sum() -> None:
    logits, labels, mask = draw_batch(20, 2)
    weights = torch.rand(mask.shape, dtype=torch.float64) * mask
    large, small = (
        task_losses(logits, labels, mask, (scale * weights).sum(dim=0), scale * weights)
        for scale in (1.0, 1e-6)
    )
    torch.testing.assert_close(small, large, rtol=1e-9, atol=0)


def test_without_weight_anywhere_loss_and_gradient_are_0() -> None:
    logits, labels, mask = draw_batch(5, 2)
    logits.requires_grad_()
    nothing = torch.zeros_like(mask)
    losses = task_losses(logits, labels, nothing, torch.zeros(2), nothing.float())
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.tolist() == [0.0, 0.0]
    assert not gradient.any()
