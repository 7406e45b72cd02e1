"""The point of smallest norm in the convex hull of the gradients, inside one Triton program.

The same iterations as `gradients.min_norm` and `gradients.least_squares`, where they
are explained.
"""

# mypy: ignore-errors
# A kernel's values have no Python types.

# T tasks; SIZE is T rounded up to a power of two, and the tasks beyond T have zero gradients

import triton
import triton.language as tl


@triton.jit
def times(matrix, vector):
    """[SIZE] matrix @ vector: [[1, 2], [3, 4]] times [1, 1] is [3, 7]."""
    return tl.sum(matrix * vector[None, :], axis=1)


@triton.jit
def _solve_in_use(normal_matrix, target, in_use, SIZE: tl.constexpr):
    """Solve for the tasks in use, with `target` and with every column of the matrix at once.

    Matrix [[2, 1], [1, 1]] and target [4, 3] with only the first task in use give the solution
    [2, 0], and the regressions [[1, 0.5], [0, 0]] of each task on the first.

    The matrix is symmetric and, on the tasks in use, positive definite, so the largest diagonal
    entry left is as good a pivot as any.
    """
    tasks = tl.arange(0, SIZE)
    is_diagonal = tasks[:, None] == tasks[None, :]
    waiting = in_use
    tableau = normal_matrix
    solution = target
    for _ in range(SIZE):
        diagonal = tl.sum(tl.where(is_diagonal, tableau, 0.0), axis=1)
        residual, pivot = tl.max(tl.where(waiting, diagonal, 0.0), axis=0, return_indices=True)
        is_pivot = (tasks == pivot) & waiting & (diagonal > 0)
        divisor = tl.where(residual > 0, residual, 1.0)
        row = tl.sum(tl.where(is_pivot[:, None], tableau, 0.0), axis=0) / divisor
        value = tl.sum(tl.where(is_pivot, solution, 0.0), axis=0) / divisor
        column = tl.sum(tl.where(is_pivot[None, :], tableau, 0.0), axis=1)
        tableau = tl.where(
            is_pivot[:, None], row[None, :], tableau - column[:, None] * row[None, :]
        )
        solution = tl.where(is_pivot, value, solution - column * value)
        waiting = waiting & (tasks != pivot)
    return tl.where(in_use, solution, 0.0), tl.where(in_use[:, None], tableau, 0.0)


@triton.jit
def _gain(normal_matrix, target, goal, regression, rounding_unit):
    """[SIZE] How much taking in each task would lower the objective; 0 where it would not."""
    tasks = tl.arange(0, target.shape[0])
    diagonal = tl.sum(tl.where(tasks[:, None] == tasks[None, :], normal_matrix, 0.0), axis=1)
    descent = target - times(normal_matrix, goal)
    independent = diagonal - tl.sum(normal_matrix * regression, axis=0)
    growth = tl.sum(tl.abs(regression), axis=0) + 1.0
    lowers = descent > (tl.sum(tl.abs(goal), axis=0) + 1.0) * growth * rounding_unit
    useful = lowers & (independent > growth * growth * rounding_unit)
    return tl.where(useful, descent * descent / tl.where(useful, independent, 1.0), 0.0)


@triton.jit
def _nonnegative_least_squares(
    normal_matrix, target, most_rounds, rounding_unit, SIZE: tl.constexpr
):
    """[SIZE] u >= 0 that minimises u^T H u / 2 - f^T u, by an active set.

    Matrix [[2, 1], [1, 1]] and target [1, 0] give [0.5, 0].

    A round that neither drops a task nor takes one in has reached the answer.
    """
    tasks = tl.arange(0, SIZE)
    solution = tl.zeros([SIZE], tl.float64)
    in_use = tasks < 0
    rounds = 0
    searching = True
    while searching:
        goal, regression = _solve_in_use(normal_matrix, target, in_use, SIZE=SIZE)
        blocking = in_use & (goal < 0)
        falls = tl.where(blocking, solution - goal, 1.0)
        steps = tl.where(blocking, solution / falls, float("inf"))
        step = tl.minimum(tl.min(steps, axis=0), 1.0)
        leaving = blocking & (steps <= step)
        solution = tl.maximum(goal * step + solution * (1.0 - step), 0.0)
        solution = tl.where(leaving, 0.0, solution)
        blocked = tl.max(blocking.to(tl.int32), axis=0) > 0

        gain = _gain(normal_matrix, target, goal, regression, rounding_unit)
        gain = tl.where(blocked, 0.0, gain)
        most, best = tl.max(gain, axis=0, return_indices=True)
        in_use = (in_use & (leaving == 0)) | ((tasks == best) & (gain > 0))
        rounds += 1
        searching = (blocked | (most > 0)) & (rounds < most_rounds)
    return solution


@triton.jit
def min_norm_weights(
    norms, correlation, zero_sine_squared, most_rounds, rounding_unit, SIZE: tl.constexpr
):
    """[SIZE] Weights of the min-norm point, all 0 where it counts as zero.

    Norms [1, sqrt(3)] with correlations [[1, 0], [0, 1]] give [0.75, 0.25].
    """
    present = norms > 0
    smallest = tl.min(tl.where(present, norms, float("inf")), axis=0)
    inverse_norms = tl.where(present, smallest / tl.where(present, norms, 1.0), 0.0)
    weights = inverse_norms * _nonnegative_least_squares(
        correlation + inverse_norms[:, None] * inverse_norms[None, :],
        inverse_norms,
        most_rounds,
        rounding_unit,
        SIZE=SIZE,
    )
    total = tl.sum(weights, axis=0)
    weights = weights / tl.where(total > 0, total, 1.0)
    lengths = weights * norms
    norm_squared = tl.sum(lengths * times(correlation, lengths), axis=0)
    longest = tl.max(lengths, axis=0)
    return tl.where(norm_squared <= longest * longest * zero_sine_squared, 0.0, weights)
