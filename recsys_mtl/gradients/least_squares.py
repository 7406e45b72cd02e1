"""Non-negative least squares on small matrices, several at once, without waiting for the device."""

# N problems, T tasks

import torch
from torch import Tensor

# Lawson and Hanson report about T / 2 changes of the set in use; 10,000 random sets of up to 8
# tasks took at most 2 T rounds.
ROUNDS_PER_TASK = 4


def nonnegative_least_squares(
    normal_matrix: Tensor, targets: Tensor, *, zero_sine_squared: float = 0.0
) -> Tensor:
    """u >= 0 that minimises u^T H u / 2 - f^T u, for one H [T, T] and each f of the targets.

    H [[1, 0], [0, 2]] and f [[3, 4], [-1, 4]] give u [[3, 2], [0, 2]].

    An active set of tasks: each round solves for the tasks in use, then either steps back to the
    first that would turn negative and drops it, or takes in the task that lowers the objective
    most. Both cases are computed and one selected, so the host never waits for the device. The
    objective never rises and u stays feasible, also where the rounds run out. A task that depends
    on the tasks in use is never taken in, so a singular H needs no ridge.

    Args:
        normal_matrix: [T, T] float64, symmetric and positive semi-definite.
        targets: [N, T] float64.
        zero_sine_squared: what remains of a task's diagonal entry, where that is 1, beside the
            tasks in use, up to which it counts as dependent; at least its rounding.

    Returns:
        [N, T] float64.

    Source: Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23.
    """
    num_problems, num_tasks = targets.shape
    tasks = torch.arange(num_tasks, device=targets.device)
    identity = torch.eye(num_tasks, dtype=torch.float64, device=targets.device)
    columns = normal_matrix.expand(num_problems, -1, -1)
    right_sides = torch.cat([targets[:, :, None], columns], dim=2)
    solution = torch.zeros_like(targets)
    in_use = torch.zeros_like(targets, dtype=torch.bool)
    for _ in range(ROUNDS_PER_TASK * num_tasks):
        system = torch.where(in_use[:, :, None] & in_use[:, None, :], normal_matrix, identity)
        solved, _ = torch.linalg.solve_ex(system, torch.where(in_use[:, :, None], right_sides, 0.0))
        goal, regression = solved[:, :, 0], solved[:, :, 1:]
        blocking = in_use & (goal < 0)
        steps = torch.where(blocking, solution / (solution - goal), torch.inf)
        step = steps.amin(dim=1, keepdim=True).clamp_max(1.0)
        leaving = blocking & (steps <= step)
        solution = torch.where(leaving, 0.0, torch.lerp(solution, goal, step)).clamp_min(0.0)

        gain = _gain(normal_matrix, targets, goal, regression, zero_sine_squared)
        best = (tasks == gain.argmax(dim=1, keepdim=True)) & (gain > 0)  # indexing would wait
        entering = best & ~blocking.any(dim=1, keepdim=True)
        # On a CPU reading a flag costs nothing, and most problems are solved in a few rounds.
        if targets.device.type == "cpu" and not bool((leaving | entering).any()):
            break
        in_use = (in_use & ~leaving) | entering
    return solution


def _gain(
    normal_matrix: Tensor,
    targets: Tensor,
    goal: Tensor,
    regression: Tensor,
    zero_sine_squared: float,
) -> Tensor:
    """How much taking in each task would lower the objective, [N, T]; 0 where it would not.

    `goal` [N, T] solves for the tasks in use, `regression` [N, T, T] holds in column j the
    coefficients of task j on them.
    """
    descent = targets - goal @ normal_matrix
    independent = normal_matrix.diagonal() - (normal_matrix * regression).sum(dim=1)
    # The limits are the rounding of both: near-parallel tasks in use make the coefficients large,
    # and taking in a task on rounding alone makes the next system singular.
    rounding = 16 * torch.finfo(torch.float64).eps
    growth = 1 + regression.abs().sum(dim=1)
    lowers = descent > rounding * growth * (1 + goal.abs().sum(dim=1, keepdim=True))
    least = (rounding * growth.square()).clamp_min(zero_sine_squared)
    useful = lowers & (independent > least)
    return torch.where(useful, descent.square() / independent, 0.0)
