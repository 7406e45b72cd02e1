"""The passes over task gradients on a CPU, compiled by Numba at their first call.

torch has no product of float32 vectors that sums in float64: it converts first, which writes and
reads twice the memory. These loops convert in registers, three rows at a time.
"""

# T tasks, P columns; of embedding tables N touched rows, D embedding dimension, K tables

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Columns that stay in a core's first cache while every pair of rows is multiplied.
_BLOCK = 512
# Columns of one call, whatever the number of threads: it decides how sums are rounded.
_SPAN = 1 << 18

DTYPES = (torch.float32, torch.float64)
"""What the loops can read."""


def gram_upper(task_gradients: Tensor) -> Tensor:
    """[T, T] float64: products of each two rows of [T, P] in the upper triangle, 0 below.

    Gradients [[1, 0], [-1, 1]] give [[1, -1], [0, 2]].
    """
    num_tasks, columns = task_gradients.shape
    rows = _rows(task_gradients)
    totals = np.zeros((num_tasks, num_tasks))
    for products in _run(
        lambda start, stop: _upper_products(*rows, num_tasks, start, stop), columns
    ):
        totals += products
    return torch.from_numpy(totals)


def gram_upper_by_table(row_gradients: Tensor, tables: Tensor, num_tables: int) -> Tensor:
    """[K, T, T] float64: the same of the rows of each table, which may stand in any order.

    Rows [[[1, 0], [2, 2]]] of one task, in the tables [1, 0], give [[[8]], [[1]]].

    Args:
        row_gradients: [T, N, D] float64, contiguous.
        tables: [N] int64: the number of each row's table, from 0.
        num_tables: K, more than each of these numbers; a larger one is not noticed.
    """
    num_tasks, num_rows, dim = row_gradients.shape
    values, of_row = row_gradients.view(-1).numpy(), tables.numpy()
    totals = np.zeros((num_tables, num_tasks, num_tasks))
    for products in _run(
        lambda start, stop: _upper_products_by_table(
            values, num_tasks, dim, of_row, num_tables, start, stop
        ),
        num_rows,
    ):
        totals += products
    return torch.from_numpy(totals)


def combine(task_gradients: Tensor, coefficients: Tensor, out: Tensor) -> None:
    """Write sum_i c_i g_i to `out` [P], summed in float64 and rounded once.

    Gradients [[1, 0], [-1, 1]] with coefficients [2, 1] give [1, 1].
    """
    rows, factors, target = _rows(task_gradients), coefficients.numpy(), out.numpy()
    for _ in _run(
        lambda start, stop: _combine(*rows, factors, target[start:stop], start),
        task_gradients.shape[1],
    ):
        pass


def _compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """`function` in machine code, run without Python's lock.

    Sums may be reordered, which vector instructions need; NaN and infinity keep their meaning.
    """
    options = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}}
    return cast(Callable[_P, _R], numba.njit(**options)(function))


@_compiled
def _upper_products(
    values: NDArray[Any], row_stride: int, num_tasks: int, start: int, stop: int
) -> NDArray[np.float64]:
    # Three rows by each other, then by every later row. Offsets are unsigned: Numba would look at
    # each signed index for one that counts from the end, and use no vector instructions.
    products = np.zeros((num_tasks, num_tasks))
    for block in range(start, stop, _BLOCK):
        size = np.uintp(min(_BLOCK, stop - block))
        for i in range(0, num_tasks, 3):
            a = np.uintp(i * row_stride + block)
            b, c = a + np.uintp(row_stride), a + np.uintp(2 * row_stride)
            aa = ab = ac = bb = bc = cc = 0.0
            if i + 1 == num_tasks:
                for k in range(size):
                    x = np.float64(values[a + k])
                    aa += x * x
                products[i, i] += aa
            elif i + 2 == num_tasks:
                for k in range(size):
                    x, y = np.float64(values[a + k]), np.float64(values[b + k])
                    aa += x * x
                    ab += x * y
                    bb += y * y
                products[i, i] += aa
                products[i, i + 1] += ab
                products[i + 1, i + 1] += bb
            else:
                for k in range(size):
                    x, y = np.float64(values[a + k]), np.float64(values[b + k])
                    z = np.float64(values[c + k])
                    aa += x * x
                    ab += x * y
                    ac += x * z
                    bb += y * y
                    bc += y * z
                    cc += z * z
                products[i, i] += aa
                products[i, i + 1] += ab
                products[i, i + 2] += ac
                products[i + 1, i + 1] += bb
                products[i + 1, i + 2] += bc
                products[i + 2, i + 2] += cc
            for j in range(i + 3, num_tasks):
                d = np.uintp(j * row_stride + block)
                ad = bd = cd = 0.0
                for k in range(size):
                    u = np.float64(values[d + k])
                    ad += values[a + k] * u
                    bd += values[b + k] * u
                    cd += values[c + k] * u
                products[i, j] += ad
                products[i + 1, j] += bd
                products[i + 2, j] += cd
    return products


@_compiled
def _upper_products_by_table(
    values: NDArray[np.float64],
    num_tasks: int,
    dim: int,
    tables: NDArray[np.int64],
    num_tables: int,
    start: int,
    stop: int,
) -> NDArray[np.float64]:
    # A row's few numbers stay in the first cache while every pair of tasks is multiplied. Offsets
    # are unsigned as in _upper_products.
    products = np.zeros((num_tables, num_tasks, num_tasks))
    for row in range(start, stop):
        for i in range(num_tasks):
            a = np.uintp((i * tables.size + row) * dim)
            for j in range(i, num_tasks):
                b = np.uintp((j * tables.size + row) * dim)
                product = 0.0
                for k in range(np.uintp(dim)):
                    product += values[a + k] * values[b + k]
                products[tables[row], i, j] += product
    return products


@_compiled
def _combine(
    values: NDArray[Any],
    row_stride: int,
    coefficients: NDArray[np.float64],
    out: NDArray[Any],
    start: int,
) -> None:
    # Three rows at a time, the last of them on the way out: the float64 sums of more rows than
    # three are most of what moves. Offsets are unsigned as in _upper_products.
    num_tasks, sums = coefficients.size, np.zeros(_BLOCK)
    last = (num_tasks - 1) // 3 * 3
    for block in range(0, out.size, _BLOCK):
        size, target = np.uintp(min(_BLOCK, out.size - block)), np.uintp(block)
        if last > 0:
            sums[:] = 0.0
        for i in range(0, last + 1, 3):
            a = np.uintp(i * row_stride + start + block)
            b, c = a + np.uintp(row_stride), a + np.uintp(2 * row_stride)
            f = coefficients[i]
            if i + 1 == num_tasks:
                for k in range(size):
                    out[target + k] = sums[k] + f * values[a + k]
            elif i + 2 == num_tasks:
                g = coefficients[i + 1]
                for k in range(size):
                    out[target + k] = sums[k] + (f * values[a + k] + g * values[b + k])
            else:
                g, h = coefficients[i + 1], coefficients[i + 2]
                if i == last:
                    for k in range(size):
                        three = f * values[a + k] + g * values[b + k] + h * values[c + k]
                        out[target + k] = sums[k] + three
                else:
                    for k in range(size):
                        sums[k] += f * values[a + k] + g * values[b + k] + h * values[c + k]


def _rows(task_gradients: Tensor) -> tuple[NDArray[Any], int]:
    """The memory of [T, P] as one array, and from where to where a row goes in it.

    One array, since a view of padded rows would keep Numba from using vector instructions.
    Copied where the columns of a row are not side by side.
    """
    if task_gradients.stride(1) != 1:
        task_gradients = task_gradients.contiguous()
    (num_tasks, columns), stride = task_gradients.shape, task_gradients.stride(0)
    length = (num_tasks - 1) * stride + columns if columns else 0
    return task_gradients.as_strided((length,), (1,)).numpy(), stride


def _run(loop: Callable[[int, int], _R], columns: int) -> Iterator[_R]:
    """The results for all spans of columns, in order, on as many threads as torch would take."""
    spans = [(start, min(start + _SPAN, columns)) for start in range(0, columns, _SPAN)]
    threads = min(torch.get_num_threads(), len(spans))
    if threads <= 1:
        return (loop(*span) for span in spans)
    return _pool(threads).map(lambda span: loop(*span), spans)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="gradops")
