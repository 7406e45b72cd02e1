"""GradOPS on the Gram matrix, in one program: the same steps as `gradients.gradops_coefficients`.

Source: Zhu et al., "Gradient Deconfliction via Orthogonal Projections onto Subspaces For
Multi-task Learning", WSDM 2025, Algorithm 1 and Eq. 1-5.
"""

# mypy: ignore-errors
# A kernel's values have no Python types.

# T tasks; SIZE is T rounded up to a power of two, and the tasks beyond T have zero gradients

import triton
import triton.language as tl

from recsys_mtl.gradients.kernels.min_norm import min_norm_weights


@triton.jit
def _regress_on_others(correlation, zero_sine_squared, rounding_unit, SIZE: tl.constexpr):
    """Least squares of every unit gradient on all the others: one elimination for each of them.

    Correlations [[1, -0.5], [-0.5, 1]] give the regression [[0, -0.5], [-0.5, 0]] and the squared
    sines [0.75, 0.75].

    Returns:
        regression [SIZE, SIZE], row i the coefficients of gradient i on the others, and
        sine_squared [SIZE], that of gradient i to their span.
    """
    tasks = tl.arange(0, SIZE)
    itself = tasks[:, None] == tasks[None, :]
    waiting = tasks[:, None] != tasks[None, :]  # [target, task]
    tableau = tl.broadcast_to(correlation[None, :, :], (SIZE, SIZE, SIZE))  # [target, row, column]
    for _ in range(SIZE - 1):
        diagonal = tl.sum(tl.where(itself[None, :, :], tableau, 0.0), axis=2)
        residual, pivot = tl.max(tl.where(waiting, diagonal, 0.0), axis=1, return_indices=True)
        independent = residual > zero_sine_squared
        is_pivot = (tasks[None, :] == pivot[:, None]) & independent[:, None]
        column = tl.sum(tl.where(is_pivot[:, None, :], tableau, 0.0), axis=2)
        divisor = tl.where(independent, residual, 1.0)
        row = tl.sum(tl.where(is_pivot[:, :, None], tableau, 0.0), axis=1) / divisor[:, None]
        eliminated = tableau - column[:, :, None] * row[:, None, :]
        tableau = tl.where(is_pivot[:, :, None], row[:, None, :], eliminated)
        waiting = waiting & (is_pivot == 0)
    targets = tl.sum(tl.where(itself[:, None, :], tableau, 0.0), axis=2)  # column of the target
    regression = tl.where(waiting | itself, 0.0, targets)
    sine_squared = tl.sum(tl.where(itself, targets, 0.0), axis=1)
    growth = tl.sum(tl.abs(regression), axis=1) + 1.0
    rounding = growth * growth * rounding_unit
    kept = (sine_squared > rounding) & (sine_squared > zero_sine_squared)
    return regression, tl.where(kept, sine_squared, 0.0)


@triton.jit
def _weights(contributions, kept, alpha):
    """[SIZE] The softmax of alpha log R over the tasks kept, times their number.

    Contributions [0.5, 0.7071] with alpha 2 give the weights [2/3, 4/3].
    """
    logits = tl.log(tl.where(kept, contributions, 1.0)) * alpha
    largest = tl.max(tl.where(kept, logits, -float("inf")), axis=0)
    powers = tl.where(kept, tl.exp(tl.where(kept, logits - largest, 0.0)), 0.0)
    total = tl.sum(powers, axis=0)
    number = tl.sum(kept.to(tl.int32), axis=0)
    return powers * number / tl.where(number > 0, total, 1.0)


@triton.jit
def _any(mask):
    return tl.max(mask.to(tl.int32), axis=0) > 0


@triton.jit
def coefficients_kernel(
    gram,
    weights,
    coefficients,
    shares_kept,
    contributions,
    conflicts,
    used_min_norm,
    finite,
    alpha: tl.float64,
    zero_sine_squared: tl.float64,
    most_rounds,
    rounding_unit: tl.float64,
    NUM_TASKS: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Weights and coefficients from the Gram, in one program.

    Gram [[1, -1], [-1, 2]] with alpha 0 gives the weights [1, 1], the coefficients [2, 1.5], the
    shares kept [0.7071, 0.7071] and the contributions [0.5, 0.7071].

    The min-norm point is searched for only where the flag on the device asks for it.

    Args:
        gram: [T, T] float64.
        weights, coefficients, shares_kept, contributions: [T] float64.
        conflicts: [T, T] bool.
        used_min_norm, finite: [] bool.

    Moves 8 T^2 bytes in and T^2 + 32 T + 2 out.
    """
    tasks = tl.arange(0, SIZE)
    places = tasks[:, None] * NUM_TASKS + tasks[None, :]
    is_task = tasks < NUM_TASKS
    is_pair = is_task[:, None] & is_task[None, :]
    products = tl.load(gram + places, mask=is_pair, other=0.0)
    infinite = tl.abs(products) < float("inf")
    is_finite = tl.min(tl.min(infinite.to(tl.int32), axis=1), axis=0) > 0
    products = tl.where(is_finite, products, 0.0)

    itself = tasks[:, None] == tasks[None, :]
    norms = tl.sqrt(tl.sum(tl.where(itself, products, 0.0), axis=1))
    present = norms > 0
    divisors = tl.where(present, norms, 1.0)
    scaled = products / (divisors[:, None] * divisors[None, :])
    correlation = tl.where(present[:, None] & present[None, :], scaled, 0.0)
    conflict = correlation < 0
    conflicting = tl.max(conflict.to(tl.int32), axis=1) > 0
    regression, sine_squared = _regress_on_others(
        correlation, zero_sine_squared, rounding_unit, SIZE=SIZE
    )
    kept_squared = tl.where(conflicting, sine_squared, present.to(tl.float64))
    own = tl.where(itself, sine_squared[:, None], 0.0)
    met = tl.where(conflicting[:, None], own, correlation)
    contribution = tl.sum(norms[:, None] * met, axis=0)
    weight = _weights(contribution, kept_squared > 0, alpha)
    length = weight * norms
    removed = tl.sum(tl.where(conflicting, length, 0.0)[:, None] * regression, axis=0)
    coefficient = tl.where(present, (length - removed) / divisors, 0.0)

    is_min_norm = _any(present) & (_any(kept_squared > 0) == 0)
    if is_min_norm:
        weight = min_norm_weights(
            norms, correlation, zero_sine_squared, most_rounds, rounding_unit, SIZE=SIZE
        )
        coefficient = weight
    tl.store(weights + tasks, weight, mask=is_task)
    tl.store(coefficients + tasks, coefficient, mask=is_task)
    tl.store(shares_kept + tasks, tl.sqrt(kept_squared), mask=is_task)
    tl.store(contributions + tasks, contribution, mask=is_task)
    tl.store(conflicts + places, conflict, mask=is_pair)
    tl.store(used_min_norm, is_min_norm)
    tl.store(finite, is_finite)
