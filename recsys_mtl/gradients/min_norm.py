"""The point of smallest norm in the convex hull of the task gradients (MGDA)."""

# T tasks

import torch
from torch import Tensor

from recsys_mtl.gradients.gram import correlations

# Lawson and Hanson report about T / 2 changes of the set in use; 10,000 random sets of up to 8
# tasks took at most 2 T rounds.
ROUNDS_PER_TASK = 4


def min_norm(gram: Tensor) -> Tensor:
    """Weights of the convex combination of gradients that has the smallest norm.

    Gram [[1, 0], [0, 3]] gives the weights [0.75, 0.25].

    With n the smallest norm, the weights v >= 0 that minimise |sum v_i g_i|^2 + (n sum v_i - 1)^2
    are a multiple of the answer, whatever n: for a given sum of v the first term alone decides
    between them. In u_i = v_i |g_i| this is non-negative least squares on unit gradients, so
    norms of any ratio are safe.

    Args:
        gram: [T, T] float64, finite.

    Returns:
        [T] float64, non-negative, sum 1; 0 for a task whose gradient is zero (all 0 if each is).

    Source: Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", 2018, Eq. 4.
    """
    norms, correlation = correlations(gram)
    present = norms > 0
    smallest = torch.where(present, norms, torch.inf).amin()
    inverse_norms = torch.where(present, smallest / norms, 0.0)
    normal_matrix = correlation + torch.outer(inverse_norms, inverse_norms)
    weights = inverse_norms * _nonnegative_least_squares(normal_matrix, inverse_norms)
    total = weights.sum()
    return weights / torch.where(total > 0, total, 1.0)


def _nonnegative_least_squares(normal_matrix: Tensor, target: Tensor) -> Tensor:
    """u >= 0 that minimises u^T H u / 2 - f^T u, for H [T, T] positive semi-definite and f [T].

    An active set of tasks: each round solves for the tasks in use, then either steps back to the
    first that would turn negative and drops it, or takes in the task that lowers the objective
    most. Both cases are computed and one selected, so the host never waits for the device. The
    objective never rises and u stays feasible, also where the rounds run out.

    Source: Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23.
    """
    tasks = torch.arange(len(target), device=target.device)
    identity = torch.eye(len(target), dtype=torch.float64, device=target.device)
    right_sides = torch.cat([target[:, None], normal_matrix], dim=1)
    solution = torch.zeros_like(target)
    in_use = torch.zeros_like(target, dtype=torch.bool)
    for _ in range(ROUNDS_PER_TASK * len(target)):
        system = torch.where(torch.outer(in_use, in_use), normal_matrix, identity)
        solved, _ = torch.linalg.solve_ex(system, torch.where(in_use[:, None], right_sides, 0.0))
        goal, regression = solved[:, 0], solved[:, 1:]
        blocking = in_use & (goal < 0)
        steps = torch.where(blocking, solution / (solution - goal), torch.inf)
        step = steps.amin().clamp_max(1.0)
        leaving = blocking & (steps <= step)
        solution = torch.where(leaving, 0.0, torch.lerp(solution, goal, step)).clamp_min(0.0)

        gain = _gain(normal_matrix, target, goal, regression)
        best = (tasks == gain.argmax()) & (gain > 0)  # indexing by argmax would wait
        in_use = (in_use & ~leaving) | (best & ~blocking.any())
    return solution


def _gain(normal_matrix: Tensor, target: Tensor, goal: Tensor, regression: Tensor) -> Tensor:
    """How much taking in each task would lower the objective, [T]; 0 where it would not.

    `goal` [T] solves for the tasks in use, `regression` [T, T] holds in column j the coefficients
    of task j on them.
    """
    descent = target - normal_matrix @ goal
    independent = normal_matrix.diagonal() - (normal_matrix * regression).sum(dim=0)
    # The limits are the rounding of both: near-parallel tasks in use make the coefficients large,
    # and taking in a task on rounding alone makes the next system singular.
    rounding = 16 * torch.finfo(torch.float64).eps
    growth = 1 + regression.abs().sum(dim=0)
    lowers = descent > rounding * growth * (1 + goal.abs().sum())
    useful = lowers & (independent > rounding * growth.square())
    return torch.where(useful, descent.square() / independent, 0.0)
