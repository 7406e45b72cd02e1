"""What the host does for each kernel: check, allocate, launch. Nothing here reads a value."""

# T tasks, P shared parameters

from contextlib import AbstractContextManager

import torch
import triton  # type: ignore[import-untyped]
from torch import Tensor

from recsys_mtl.gradients.backend import check_num_tasks
from recsys_mtl.gradients.gram import check_gram, check_task_gradients
from recsys_mtl.gradients.kernels.algebra import coefficients_kernel
from recsys_mtl.gradients.kernels.combine import (
    adam_factors_kernel,
    combine_kernel,
    combined_adam_kernel,
)
from recsys_mtl.gradients.kernels.gram import partial_products_kernel, sum_partials_kernel
from recsys_mtl.gradients.least_squares import ROUNDS_PER_TASK
from recsys_mtl.gradients.methods.gradops import GradOPSCoefficients, check_alpha

_WARPS = 4
_THREADS = 32 * _WARPS
_BYTES_PER_LOAD = 16  # the widest a thread can load at once
# Enough blocks that a program's last sum, over its threads, costs little beside its loads, and
# few enough programs that their partial products stay in the L2 cache (T = 8: 590 KB).
_LEAST_BLOCKS_PER_PROGRAM = 8
_MOST_PROGRAMS = 2048
_PARTIALS_AT_ONCE = 256
_ROUNDING_UNIT = 16 * torch.finfo(torch.float64).eps  # as in the torch functions


def gram_matrix(task_gradients: Tensor) -> Tensor:
    """All products of two task gradients, K = G G^T, as `gradients.gram_matrix` gives them.

    Summed in an order that depends on shape and dtype alone, so every run gives the same bits.

    Args:
        task_gradients: [T, P], any floating dtype. Copied only where columns are not adjacent;
            loads are 16 bytes wide where P and the row stride are multiples of 16.

    Returns:
        [T, T] float64, symmetric. An infinite or NaN gradient makes it non-finite.

    Raises:
        TypeError: not a floating dtype.
        ValueError: not two-dimensional, no task, or more than 16.
    """
    gradients = _rows_in_memory(task_gradients)
    num_tasks, num_columns = gradients.shape
    width = _columns_per_thread(gradients)
    blocks = max(1, triton.cdiv(num_columns, _THREADS * width))
    per_program = max(_LEAST_BLOCKS_PER_PROGRAM, triton.cdiv(blocks, _MOST_PROGRAMS))
    per_program = min(per_program, blocks)
    num_programs = triton.cdiv(blocks, per_program)
    pairs = num_tasks * (num_tasks + 1) // 2
    device = gradients.device
    partials = torch.empty(pairs, num_programs, dtype=torch.float64, device=device)
    gram = torch.empty(num_tasks, num_tasks, dtype=torch.float64, device=device)
    with _on_device_of(gradients):
        partial_products_kernel[(num_programs,)](
            gradients,
            partials,
            gradients.stride(0),
            num_columns,
            per_program,
            num_programs,
            NUM_TASKS=num_tasks,
            THREADS=_THREADS,
            WIDTH=width,
            num_warps=_WARPS,
        )
        sum_partials_kernel[(num_tasks, num_tasks)](
            partials, gram, num_programs, NUM_TASKS=num_tasks, AT_ONCE=_PARTIALS_AT_ONCE
        )
    return gram


def gradops_coefficients(
    gram: Tensor, *, alpha: float, zero_sine_squared: float = 1e-8
) -> GradOPSCoefficients:
    """GradOPS on the Gram matrix, as `gradients.gradops_coefficients` gives it.

    Args:
        gram: [T, T] float64, as `gram_matrix` returns it; copied only where it is not contiguous.
        alpha: above 0 favours tasks that gain most, below 0 those that gain least.
        zero_sine_squared: as `zero_sine_squared_for` gives it for the gradients' dtype.

    Raises:
        TypeError: not float64.
        ValueError: not square, no task or more than 16, or alpha not finite.
    """
    check_gram(gram)
    check_alpha(alpha)
    num_tasks = gram.shape[0]
    check_num_tasks(num_tasks)
    size = triton.next_power_of_2(num_tasks)
    numbers = torch.empty(4, num_tasks, dtype=torch.float64, device=gram.device)
    weights, coefficients, shares_kept, contributions = numbers.unbind()
    conflicts = torch.empty(num_tasks, num_tasks, dtype=torch.bool, device=gram.device)
    used_min_norm, finite = torch.empty(2, dtype=torch.bool, device=gram.device).unbind()
    with _on_device_of(gram):
        coefficients_kernel[(1,)](
            gram.contiguous(),
            weights,
            coefficients,
            shares_kept,
            contributions,
            conflicts,
            used_min_norm,
            finite,
            alpha,
            zero_sine_squared,
            ROUNDS_PER_TASK * num_tasks,
            _ROUNDING_UNIT,
            NUM_TASKS=num_tasks,
            SIZE=size,
            # One warp needs no barriers; above 8 tasks its registers do not hold [T, T, T].
            num_warps=1 if size <= 8 else 8,
        )
    return GradOPSCoefficients(
        weights=weights,
        coefficients=coefficients,
        conflicts=conflicts,
        shares_kept=shares_kept,
        contributions=contributions,
        used_min_norm=used_min_norm,
        finite=finite,
    )


def combine_gradients(
    task_gradients: Tensor, coefficients: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """The combination sum_i c_i g_i, as `gradients.combine_gradients` gives it.

    Args:
        task_gradients: [T, P], any floating dtype; copied only where columns are not adjacent.
        coefficients: [T] float64.
        out: [P] to write to, no part of `task_gradients`.

    Returns:
        [P] in the gradients' dtype, but float32 for float16 and bfloat16; `out` if given.

    Raises:
        TypeError: gradients not of a floating dtype, coefficients not float64, or an `out` of
            another dtype than what is returned.
        ValueError: gradients not two-dimensional, no task or more than 16, a number of
            coefficients that is not T, or an `out` of another shape.
    """
    gradients = _rows_in_memory(task_gradients)
    num_tasks, num_columns = gradients.shape
    _check_vector("coefficients", coefficients, num_tasks, torch.float64)
    dtype = _update_dtype(gradients)
    if out is None:
        out = torch.empty(num_columns, dtype=dtype, device=gradients.device)
    else:
        _check_vector("out", out, num_columns, dtype)
    block = _THREADS * _columns_per_thread(gradients)
    with _on_device_of(gradients):
        combine_kernel[(max(1, triton.cdiv(num_columns, block)),)](
            gradients,
            coefficients,
            out,
            gradients.stride(0),
            num_columns,
            NUM_TASKS=num_tasks,
            BLOCK=block,
            num_warps=_WARPS,
        )
    return out


def combined_adam_step(
    task_gradients: Tensor,
    coefficients: Tensor,
    *,
    clip: Tensor,
    skip: Tensor,
    parameter: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    step: Tensor,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float = 0.0,
) -> None:
    """Move the parameter by AdamW along clip * sum_i c_i g_i, in one pass over memory.

    The same as `combine_gradients(task_gradients, clip * coefficients)` given to
    `torch.optim.AdamW(fused=True)`, whose state this reads and writes; where `skip` is set, nothing
    moves or decays, the step count included, as with its `found_inf`. Without weight decay it is
    Adam.

    Args:
        task_gradients: [T, P], any floating dtype; copied only where columns are not adjacent.
        coefficients: [T] float64.
        clip: [] float64, what the update is multiplied by.
        skip: [] bool.
        parameter, first_moment, second_moment: [P] contiguous, in the dtype of the update:
            float64 for float64 gradients, float32 for all others. Written in place.
        step: [] float32, steps taken so far. Written in place.

    Raises:
        TypeError: a tensor of another dtype.
        ValueError: gradients not two-dimensional, no task or more than 16, or another tensor of
            another shape, or not contiguous.
    """
    gradients = _rows_in_memory(task_gradients)
    num_tasks, num_columns = gradients.shape
    _check_vector("coefficients", coefficients, num_tasks, torch.float64)
    for name, vector in (
        ("parameter", parameter),
        ("first_moment", first_moment),
        ("second_moment", second_moment),
    ):
        _check_vector(name, vector, num_columns, _update_dtype(gradients))
    _check_scalar("clip", clip, torch.float64)
    _check_scalar("skip", skip, torch.bool)
    _check_scalar("step", step, torch.float32)
    factors = torch.empty(2, dtype=torch.float64, device=gradients.device)
    block = _THREADS * _columns_per_thread(gradients)
    with _on_device_of(gradients):
        adam_factors_kernel[(1,)](step, skip, factors, learning_rate, beta1, beta2, num_warps=1)
        combined_adam_kernel[(max(1, triton.cdiv(num_columns, block)),)](
            gradients,
            coefficients,
            clip,
            skip,
            factors,
            parameter,
            first_moment,
            second_moment,
            gradients.stride(0),
            num_columns,
            beta1,
            beta2,
            epsilon,
            learning_rate * weight_decay,
            NUM_TASKS=num_tasks,
            BLOCK=block,
            num_warps=_WARPS,
        )


def _rows_in_memory(task_gradients: Tensor) -> Tensor:
    """The gradients, checked, with adjacent columns."""
    check_task_gradients(task_gradients)
    check_num_tasks(task_gradients.shape[0])
    return task_gradients if task_gradients.stride(1) == 1 else task_gradients.contiguous()


def _columns_per_thread(gradients: Tensor) -> int:
    return _BYTES_PER_LOAD // gradients.element_size()


def _update_dtype(gradients: Tensor) -> torch.dtype:
    return torch.promote_types(gradients.dtype, torch.float32)


def _on_device_of(tensor: Tensor) -> AbstractContextManager[None]:
    """Triton launches on the current device, whatever its arguments' is."""
    return torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call]


def _check_vector(name: str, vector: Tensor, size: int, dtype: torch.dtype) -> None:
    # A kernel would read or write past the end of a shorter one.
    if vector.dtype != dtype:
        raise TypeError(f"{name} has dtype {vector.dtype}; with these gradients pass {dtype}.")
    if tuple(vector.shape) != (size,) or not vector.is_contiguous():
        raise ValueError(
            f"{name} has shape {tuple(vector.shape)} and strides {vector.stride()}; with these "
            f"gradients pass a contiguous tensor of shape ({size},)."
        )


def _check_scalar(name: str, scalar: Tensor, dtype: torch.dtype) -> None:
    if scalar.dtype != dtype or scalar.ndim != 0:
        raise TypeError(
            f"{name} has dtype {scalar.dtype} and shape {tuple(scalar.shape)}; pass {dtype} and ()."
        )
