"""The two losses on a plane, and their Pareto set.

Each loss has a steep valley above t2 = 0 and a bowl below it. The Pareto set meant here lies along
the bottom of the bowls, near t2 = -0.8: no point of the plane dominates it, since above t2 = 0 the
two losses are never negative together. It is not all that is undominated: at the floor of its own
valley a loss falls to -6.6, below the -2.5 of its bowl, and the other task pays with up to 2.9.

Source: Zhu et al., "Gradient Deconfliction via Orthogonal Projections onto Subspaces For
Multi-task Learning", WSDM 2025, appendix B. The appendix prints c2 where the valleys f1 and f2
take c1: as printed, both losses would be 0 everywhere above t2 = 0.
"""

# T = 2 tasks; a point is (t1, t2)

import torch
from torch import Tensor

BOTTOMS = (0.7, -0.7)
"""t1 where the bowls of L1 and L2 are lowest: the ends of the Pareto set."""


def losses(points: Tensor) -> Tensor:
    """L1 and L2 at points [..., 2]; [..., T]."""
    t1, t2 = points.unbind(dim=-1)
    upper, lower = (5 * t2).tanh().clamp_min(0.0), (-5 * t2).tanh().clamp_min(0.0)
    both = []
    for bottom in BOTTOMS:
        slope = 5 * (-t1 - bottom) - (-3 * t2).tanh()
        valley = slope.abs().clamp_min(0.0005).log() + 1
        bowl = 1.5 * (2 * (bottom - t1) ** 2).tanh() * (t1**2 + 1) + (t2 + 0.8) ** 2 - 2.5
        both.append(upper * valley + lower * bowl)
    return torch.stack(both, dim=-1)


def task_gradients(points: Tensor) -> Tensor:
    """The gradients of both losses at points [..., 2]; [..., T, 2]."""
    points = points.detach().requires_grad_()
    first, second = losses(points).unbind(dim=-1)
    (of_first,) = torch.autograd.grad(first.sum(), points, retain_graph=True)
    (of_second,) = torch.autograd.grad(second.sum(), points)
    return torch.stack([of_first, of_second], dim=-2)


def pareto_set(count: int = 14_001) -> Tensor:
    """Points along the bottom of the bowls where no step lowers both losses, [count, 2].

    Between the bottoms the gradients point against each other in t1; bisection in t2 finds, for
    each t1, where they are parallel. 14,001 points lie 1e-4 apart.
    """
    t1 = torch.linspace(min(BOTTOMS), max(BOTTOMS), count, dtype=torch.float64)
    low, high = torch.full_like(t1, -1.0), torch.full_like(t1, -0.6)
    sign_low = torch.linalg.det(task_gradients(torch.stack([t1, low], dim=1))).sign()
    for _ in range(50):  # 0.4 / 2^50 is below float64's spacing at 0.8
        middle = (low + high) / 2
        sign = torch.linalg.det(task_gradients(torch.stack([t1, middle], dim=1))).sign()
        below = sign == sign_low
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return torch.stack([t1, (low + high) / 2], dim=1)


def distance_to(points: Tensor, point: Tensor) -> float:
    """From `point` [2] to the nearest of `points` [count, 2]."""
    return float((points - point).norm(dim=1).amin())
