"""The two passes over the task gradients: their Gram matrix, and a combination of them.

Both multiply in float64, block by block, so no float64 copy of the gradients is ever made: on a
CPU in compiled loops, elsewhere, and for half precision, in torch operations.
"""

# T tasks, P shared parameters

from collections.abc import Iterator

import torch
from torch import Tensor

from recsys_mtl.gradients import cpu_loops

# 4 MiB of float64 stays in a CPU's last cache; blocks of 1 MiB take up to a third longer, for
# calls and for cache lines moved both ways. Elsewhere a kernel launch costs more than memory
# does (32 MiB).
_CPU_BLOCK_ELEMENTS = 1 << 19
_DEVICE_BLOCK_ELEMENTS = 1 << 22

# Two or three rows by a vector take MKL a fifth longer than as many dot products; [T, n] by its
# own transpose computes every pair twice.
_FEWEST_ROWS_AT_ONCE = 4


def gram_matrix(task_gradients: Tensor) -> Tensor:
    """All products of two task gradients, K = G G^T.

    Gradients [[1, 0], [-1, 1]] give the Gram [[1, -1], [-1, 2]].

    float64 products of float32 values are exact, so only their sum rounds: within 2e-11 of
    |g_i||g_j| for 1.4 million columns. float32 products in blocks of 512 columns lose 1e-9 where
    entries are normally distributed, but 3e-8 on gradients of a real model, whose tails are heavy,
    4e-8 where they were rounded to bfloat16 and 8e-7 where all are alike; they also follow the
    TF32 and autocast switches, which float64 ignores.

    Args:
        task_gradients: [T, P], any floating dtype. No gradient flows through it.

    Returns:
        [T, T] float64, symmetric. An infinite or NaN gradient makes it non-finite.

    Raises:
        TypeError: not a floating dtype.
        ValueError: not two-dimensional, or no task.
    """
    check_task_gradients(task_gradients)
    task_gradients = task_gradients.detach()
    loops = _has_loops(task_gradients)
    upper = cpu_loops.gram_upper(task_gradients) if loops else _gram_upper(task_gradients)
    return upper + upper.triu(1).T


def combine_gradients(
    task_gradients: Tensor,
    coefficients: Tensor,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """The combination sum_i c_i g_i, rounded once.

    Summed in float64: coefficients are large where gradients nearly cancel, and float32 would
    then leave rounding errors 1 / sine times those of the update's own dtype.

    Args:
        task_gradients: [T, P], any floating dtype. No gradient flows through it.
        coefficients: [T] float64.
        out: [P] to write to, no part of `task_gradients`.

    Returns:
        [P] in the gradients' dtype, but float32 for float16 and bfloat16; `out` if given.

    Raises:
        TypeError: coefficients that are not float64.
        ValueError: a number of coefficients that is not T, or an `out` of another shape or dtype.
    """
    task_gradients, coefficients = task_gradients.detach(), coefficients.detach()
    # A compiled loop would read on past the end of what it is given.
    if coefficients.dtype != torch.float64:
        raise TypeError(f"coefficients are {coefficients.dtype}; pass torch.float64.")
    if coefficients.shape != task_gradients.shape[:1]:
        raise ValueError(
            f"coefficients have shape {tuple(coefficients.shape)}; with these gradients pass one "
            f"for each of the {len(task_gradients)} tasks."
        )
    dtype = torch.promote_types(task_gradients.dtype, torch.float32)
    if out is None:
        out = task_gradients.new_empty(task_gradients.shape[1], dtype=dtype)
    elif out.shape != task_gradients.shape[1:] or out.dtype != dtype:
        raise ValueError(
            f"out is {out.dtype} of shape {tuple(out.shape)}; the combination needs {dtype} of "
            f"shape {tuple(task_gradients.shape[1:])}."
        )
    if _has_loops(task_gradients):
        cpu_loops.combine(task_gradients, coefficients, out)
        return out
    pieces = torch.split(out, _block_columns(task_gradients))
    for block, piece in zip(_float64_blocks(task_gradients), pieces, strict=True):
        piece.copy_(torch.mv(block.T, coefficients))
    return out


def correlations(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient norms, and the Gram of the gradients scaled to norm 1.

    Gram [[4, -2], [-2, 4]] gives the norms [2, 2] and the correlations [[1, -0.5], [-0.5, 1]].

    Args:
        gram: [T, T] float64, finite.

    Returns:
        norms [T], and correlations [T, T] with 1 on the diagonal; a zero gradient has zeros in
        its row and column, the diagonal included.
    """
    norms = gram.diagonal().sqrt()
    present = norms > 0
    divisors = torch.where(present, norms, 1.0)
    scaled = gram / torch.outer(divisors, divisors)
    return norms, torch.where(torch.outer(present, present), scaled, 0.0)


def _has_loops(task_gradients: Tensor) -> bool:
    return task_gradients.device.type == "cpu" and task_gradients.dtype in cpu_loops.DTYPES


def _gram_upper(task_gradients: Tensor) -> Tensor:
    """[T, T] float64: products of each two rows in the upper triangle, 0 below."""
    num_tasks, blocks = len(task_gradients), _float64_blocks(task_gradients)
    products = [product for block in blocks for product in _upper_products(block)]
    upper = task_gradients.new_zeros(num_tasks, num_tasks, dtype=torch.float64)
    first, second = torch.triu_indices(num_tasks, num_tasks, device=upper.device)
    upper[first, second] = torch.cat(products).view(-1, len(first)).sum(dim=0)
    return upper


def _upper_products(block: Tensor) -> Iterator[Tensor]:
    """The products of each row of a block [T, n] with itself and those below, row by row."""
    rows = block.unbind()
    for task, row in enumerate(rows):
        if len(rows) - task >= _FEWEST_ROWS_AT_ONCE:
            yield torch.mv(block[task:], row)
        else:
            yield from (torch.dot(row, other)[None] for other in rows[task:])


def _float64_blocks(task_gradients: Tensor) -> Iterator[Tensor]:
    """Blocks of columns [T, n] in float64, in order; the next one may overwrite the last."""
    blocks = torch.split(task_gradients, _block_columns(task_gradients), dim=1)
    if task_gradients.dtype == torch.float64:
        yield from blocks
        return
    scratch = task_gradients.new_empty(blocks[0].numel(), dtype=torch.float64)
    for block in blocks:
        yield scratch[: block.numel()].view(block.shape).copy_(block)


def _block_columns(task_gradients: Tensor) -> int:
    on_cpu = task_gradients.device.type == "cpu"
    elements = _CPU_BLOCK_ELEMENTS if on_cpu else _DEVICE_BLOCK_ELEMENTS
    return max(1, elements // len(task_gradients))


def check_task_gradients(task_gradients: Tensor) -> None:
    shape = tuple(task_gradients.shape)
    if len(shape) != 2 or shape[0] == 0:
        raise ValueError(
            f"task_gradients has shape {shape}; pass one row per task and one column per "
            "shared parameter, with at least one task."
        )
    if not task_gradients.dtype.is_floating_point:
        raise TypeError(
            f"task_gradients has dtype {task_gradients.dtype}; convert it to a floating dtype."
        )


def check_gram(gram: Tensor) -> None:
    """Raises TypeError where it is not float64, ValueError where it is not [T, T] with T >= 1."""
    if gram.dtype != torch.float64:
        raise TypeError(f"gram has dtype {gram.dtype}; pass float64, as gram_matrix returns it.")
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or gram.shape[0] == 0:
        raise ValueError(f"gram has shape {tuple(gram.shape)}; it must be [T, T] with T >= 1.")
