"""The update sum_i c_i g_i, written out, or clipped and applied by Adam in the same pass."""

# mypy: ignore-errors
# A kernel's values have no Python types.

# T tasks, P shared parameters

import triton
import triton.language as tl

from recsys_mtl.gradients.kernels.gram import to_float64


@triton.jit
def _combined(gradients, coefficients, row_stride, columns, inside, NUM_TASKS: tl.constexpr):
    """sum_i c_i g_i at `columns`, float64."""
    row = gradients
    total = tl.zeros(columns.shape, tl.float64)
    for task in tl.static_range(NUM_TASKS):
        gradient = to_float64(tl.load(row + columns, mask=inside, other=0.0))
        total += tl.load(coefficients + task) * gradient
        row += row_stride
    return total


@triton.jit
def combine_kernel(
    gradients,
    coefficients,
    update,
    row_stride,
    num_columns,
    NUM_TASKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One block of the update.

    Gradients [[1, 0], [-1, 1]] with the coefficients [2, 1.5] give the update [0.5, 1.5].

    Args:
        gradients: [T, P], columns adjacent, rows `row_stride` apart.
        coefficients: [T] float64.
        update: [P]

    Moves T P s bytes in, s the bytes of a gradient's entry, and P u out, u those of the update's;
    the 8 T of the coefficients come from the cache, but for the first program.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK
    columns = tl.arange(0, BLOCK)
    inside = columns < num_columns - start
    total = _combined(
        gradients + start, coefficients, row_stride, columns, inside, NUM_TASKS=NUM_TASKS
    )
    tl.store(update + start + columns, total.to(update.dtype.element_ty), mask=inside)


@triton.jit
def adam_factors_kernel(
    step, skip, factors, learning_rate: tl.float64, beta1: tl.float64, beta2: tl.float64
):
    """Count the step, unless it is skipped, and write what all parameters need of it.

    The first step with learning rate 0.1, beta1 0.9 and beta2 0.99 gives the factors [1, 10]:
    0.1 / (1 - 0.9), and 1 / sqrt(1 - 0.99).

    Args:
        step: [] float32, steps taken before this one.
        skip: [] bool.
        factors: [2] float64: the learning rate over the first moment's bias correction, and 1
            over the square root of the second's.

    Moves 5 bytes in and 20 out; where `skip` is set, 1 in.
    """
    if tl.load(skip) == 0:
        count = tl.load(step) + 1.0
        tl.store(step, count)
        power = count.to(tl.float64)
        correction1 = 1.0 - tl.exp(power * tl.log(tl.full((), beta1, tl.float64)))
        correction2 = 1.0 - tl.exp(power * tl.log(tl.full((), beta2, tl.float64)))
        tl.store(factors, learning_rate / correction1)
        tl.store(factors + 1, 1.0 / tl.sqrt(correction2))


@triton.jit
def combined_adam_kernel(
    gradients,
    coefficients,
    clip,
    skip,
    factors,
    parameter,
    first_moment,
    second_moment,
    row_stride,
    num_columns,
    beta1: tl.float64,
    beta2: tl.float64,
    epsilon: tl.float64,
    decay: tl.float64,
    NUM_TASKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One block of Adam on clip * sum_i c_i g_i; nothing moves where `skip` is set.

    Gradients [[1, 0], [-1, 1]] with the coefficients [2, 1.5] and clip 0.5 have the clipped
    update [0.25, 0.75]. With the factors [1, 10] of a first step of learning rate 0.1, beta1 0.9
    and beta2 0.99, and moments 0, these become [0.025, 0.075] and [0.000625, 0.005625], and both
    parameters fall by 0.1, but for epsilon: 0.025 / (10 sqrt(0.000625)) = 0.1. With the decay 0.01
    a parameter of 2 first falls to 1.98.

    The update is rounded once to the parameter's dtype, as `combine_gradients` rounds it; Adam is
    computed in float64 and rounded where it is written.

    Args:
        gradients: [T, P], columns adjacent, rows `row_stride` apart.
        coefficients: [T] float64.
        clip: [] float64.
        skip: [] bool.
        factors: [2] float64, of `adam_factors_kernel`.
        parameter, first_moment, second_moment: [P], float32 or float64.
        decay: the share of the parameter that goes before it moves, 0 for Adam.

    Moves (T s + 3 u) P bytes in, s the bytes of a gradient's entry and u of a parameter's, and
    3 u P out; the 8 T + 25 of the scalars come from the cache, but for the first program. Where
    `skip` is set, it reads the flag alone.
    """
    if tl.load(skip) == 0:
        start = tl.program_id(0).to(tl.int64) * BLOCK
        columns = tl.arange(0, BLOCK)
        inside = columns < num_columns - start
        total = tl.load(clip) * _combined(
            gradients + start, coefficients, row_stride, columns, inside, NUM_TASKS=NUM_TASKS
        )
        dtype = parameter.dtype.element_ty
        gradient = to_float64(total.to(dtype))
        places = start + columns
        first = to_float64(tl.load(first_moment + places, mask=inside, other=0.0))
        second = to_float64(tl.load(second_moment + places, mask=inside, other=0.0))
        value = to_float64(tl.load(parameter + places, mask=inside, other=0.0))
        first += (gradient - first) * (1.0 - beta1)
        second += (gradient * gradient - second) * (1.0 - beta2)
        length = tl.sqrt(second) * tl.load(factors + 1) + epsilon
        value = value * (1.0 - decay) - tl.load(factors) * first / length
        tl.store(first_moment + places, first.to(dtype), mask=inside)
        tl.store(second_moment + places, second.to(dtype), mask=inside)
        tl.store(parameter + places, value.to(dtype), mask=inside)
