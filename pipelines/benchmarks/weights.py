"""What each method is to multiply the task gradients by: its definition, in plain float64.

Nothing here is shared with the implementations under test.
"""

# T tasks, P shared parameters

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from recsys_mtl.gradients import gradops_reference

WeightsOf = Callable[[Tensor], Tensor]
"""From a Gram [T, T] to the weights [T] of sum_i w_i g_i, both float64."""

_COLUMNS = 1 << 20


def plain_gram(gradients: Tensor) -> Tensor:
    """[T, T] float64 products of gradients [T, P]."""
    gram = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for block in torch.split(gradients, _COLUMNS, dim=1):
        gram += block.double() @ block.double().T
    return gram


def relative_error(update: Tensor, weights: Tensor, gradients: Tensor) -> float:
    """|update - sum_i w_i g_i| / |sum_i w_i g_i| for an update [P], in float64."""
    squared_error, squared_norm = 0.0, 0.0
    blocks = torch.split(gradients, _COLUMNS, dim=1)
    for piece, block in zip(torch.split(update, _COLUMNS), blocks, strict=True):
        expected = weights @ block.double()
        squared_error += float((piece.double() - expected).square().sum())
        squared_norm += float(expected.square().sum())
    return float((squared_error / squared_norm) ** 0.5)


def gradops_weights(alpha: float) -> WeightsOf:
    """GradOPS by its reference, on the gradients' coordinates in their own span.

    The reference is made of products of vectors alone, so [T, T] coordinates with the same
    products give the same weights as [T, P] gradients, which it would take minutes over.
    """

    def weights_of(gram: Tensor) -> Tensor:
        coordinates = torch.linalg.cholesky(gram)
        update, *_ = gradops_reference(coordinates, alpha=alpha, zero_sine_squared=1e-8)
        weights: Tensor = torch.linalg.solve(coordinates.T, update)
        return weights

    return weights_of


def pcgrad_weights(gram: Tensor) -> Tensor:
    """Each gradient loses its part against every other in turn, in an order drawn by torch.

    Source: Yu et al., "Gradient Surgery for Multi-Task Learning", 2020, Algorithm 1.
    """
    num_tasks = len(gram)
    weights = torch.eye(num_tasks, dtype=torch.float64)
    for task in range(num_tasks):
        order = torch.randperm(num_tasks).tolist()
        _project(weights[task], gram, [other for other in order if other != task])
    return weights.sum(dim=0)


def gradvac_weights(gram: Tensor) -> Tensor:
    """GradVac's first step, whose targets are 0: PCGrad, but for how the order is drawn by torch.

    Source: Wang et al., "Gradient Vaccine", 2021, Algorithm 1.
    """
    num_tasks = len(gram)
    weights = torch.eye(num_tasks, dtype=torch.float64)
    for task in range(num_tasks):
        others = [other for other in range(num_tasks) if other != task]
        _project(weights[task], gram, [others[p] for p in torch.randperm(num_tasks - 1).tolist()])
    return weights.sum(dim=0)


def _project(combination: Tensor, gram: Tensor, order: Sequence[int]) -> None:
    """Take off a combination [T] of gradients its part against each of `order`, in place."""
    for other in order:
        product = combination @ gram[other]
        if product < 0:
            combination[other] -= product / gram[other, other]


def projected_weights(gram: Tensor, order: Tensor, alpha: float) -> Tensor:
    """PCGrad in a given order [T, T - 1], weighed by exp(R_i)^alpha over its mean.

    Source: Zhu et al., WSDM 2025, section 4.5; with alpha 0 Yu et al. 2020.
    """
    combinations = torch.eye(len(gram), dtype=torch.float64)
    for combination, others in zip(combinations, order.tolist(), strict=True):
        _project(combination, gram, others)
    return _powers(combinations.sum(dim=0) @ gram, gram, alpha) @ combinations


def dw_weights(gram: Tensor, alpha: float) -> Tensor:
    """The same weighting of the gradients as they are."""
    return _powers(gram.sum(dim=0), gram, alpha)


def _powers(products: Tensor, gram: Tensor, alpha: float) -> Tensor:
    """[T] exp(R_i)^alpha over its mean, from the update's products with the gradients."""
    powers = (products / gram.diagonal().sqrt()).exp() ** alpha
    return powers / powers.mean()


def imtl_g_weights(gram: Tensor) -> Tensor:
    """The affine combination with equal products with every gradient's direction.

    Source: Liu et al., "Towards Impartial Multi-task Learning", 2021.
    """
    weights: Tensor = torch.linalg.solve(gram, gram.diagonal().sqrt())
    return weights / weights.sum()


def upgrad_weights(gram: Tensor) -> Tensor:
    """The mean of the gradients, each projected onto the cone that opposes none of them.

    For each g_i / T the v >= e_i / T that minimises v^T K v, by descent along one coordinate at a
    time. As TorchJD's default does, K is scaled to trace 1, or counts as zero where its trace is
    below 1e-4 (short gradients get their mean, conflict or not), and its diagonal raised by 1e-4.

    Source: Quinton and Rey, "Jacobian Descent For Multi-Objective Optimization", 2024, Prop. 1.
    """
    num_tasks = len(gram)
    identity = torch.eye(num_tasks, dtype=torch.float64)
    scaled = gram / gram.trace() if gram.trace() >= 1e-4 else torch.zeros_like(gram)
    regular = scaled + 1e-4 * identity
    least = identity / num_tasks
    weights = least.clone()
    for _ in range(500):
        for task in range(num_tasks):
            slope = weights @ regular[:, task] / regular[task, task]
            weights[:, task] = torch.maximum(weights[:, task] - slope, least[:, task])
    return weights.sum(dim=0)
