"""The two passes over task gradients on a CPU, compiled by Numba at their first call.

torch has no product of float32 vectors that sums in float64: it converts first, which writes and
reads twice the memory. These loops convert in registers, two or three rows at a time: at T = 3 and
1.4 million columns either pass takes about a third of the time.
"""

# T tasks, P columns

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
    The code is kept for the next process, beside this file or in the user's cache: to compile takes
    seconds.
    """
    options = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}}
    try:
        made = numba.njit(**options, cache=True)(function)
    except RuntimeError:  # there is no folder that it could write to
        made = numba.njit(**options)(function)
    return cast(Callable[_P, _R], made)


@_compiled
def _upper_products(
    values: NDArray[Any], row_stride: int, num_tasks: int, start: int, stop: int
) -> NDArray[np.float64]:
    # Two rows by two, so that a number is converted for two products, not for one; three at the end
    # of an odd number of rows.
    products = np.zeros((num_tasks, num_tasks))
    for first in range(start, stop, _BLOCK):
        last = min(first + _BLOCK, stop)
        i = 0
        while i < num_tasks:
            a = _row(values, row_stride, i, first, last)
            if i + 1 == num_tasks:
                products[i, i] += _square(a)
                break
            b = _row(values, row_stride, i + 1, first, last)
            if i + 3 == num_tasks:
                _add_three(products[i:, i:], a, b, _row(values, row_stride, i + 2, first, last))
                break
            _add_two(products[i:, i:], a, b)
            for j in range(i + 2, num_tasks, 2):
                c = _row(values, row_stride, j, first, last)
                if j + 1 == num_tasks:
                    _add_two_by_one(products[i:, j:], a, b, c)
                else:
                    d = _row(values, row_stride, j + 1, first, last)
                    _add_two_by_two(products[i:, j:], a, b, c, d)
            i += 2
    return products


@_compiled
def _row(values: NDArray[Any], row_stride: int, row: int, first: int, last: int) -> NDArray[Any]:
    return values[row * row_stride + first : row * row_stride + last]


@_compiled
def _square(a: NDArray[Any]) -> float:
    aa = 0.0
    for k in range(a.size):
        x = np.float64(a[k])
        aa += x * x
    return aa


@_compiled
def _add_two(products: NDArray[np.float64], a: NDArray[Any], b: NDArray[Any]) -> None:
    aa = ab = bb = 0.0
    for k in range(a.size):
        x, y = np.float64(a[k]), np.float64(b[k])
        aa += x * x
        ab += x * y
        bb += y * y
    products[0, 0] += aa
    products[0, 1] += ab
    products[1, 1] += bb


@_compiled
def _add_three(
    products: NDArray[np.float64], a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]
) -> None:
    aa = ab = ac = bb = bc = cc = 0.0
    for k in range(a.size):
        x, y, z = np.float64(a[k]), np.float64(b[k]), np.float64(c[k])
        aa += x * x
        ab += x * y
        ac += x * z
        bb += y * y
        bc += y * z
        cc += z * z
    products[0, 0] += aa
    products[0, 1] += ab
    products[0, 2] += ac
    products[1, 1] += bb
    products[1, 2] += bc
    products[2, 2] += cc


@_compiled
def _add_two_by_one(
    products: NDArray[np.float64], a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]
) -> None:
    ac = bc = 0.0
    for k in range(a.size):
        z = np.float64(c[k])
        ac += np.float64(a[k]) * z
        bc += np.float64(b[k]) * z
    products[0, 0] += ac
    products[1, 0] += bc


@_compiled
def _add_two_by_two(
    products: NDArray[np.float64],
    a: NDArray[Any],
    b: NDArray[Any],
    c: NDArray[Any],
    d: NDArray[Any],
) -> None:
    ac = ad = bc = bd = 0.0
    for k in range(a.size):
        x, y, z, u = np.float64(a[k]), np.float64(b[k]), np.float64(c[k]), np.float64(d[k])
        ac += x * z
        ad += x * u
        bc += y * z
        bd += y * u
    products[0, 0] += ac
    products[0, 1] += ad
    products[1, 0] += bc
    products[1, 1] += bd


@_compiled
def _combine(
    values: NDArray[Any],
    row_stride: int,
    coefficients: NDArray[np.float64],
    out: NDArray[Any],
    start: int,
) -> None:
    # Three rows at a time, and the last of them on the way out: the float64 sums of more rows are
    # most of what moves.
    num_tasks, sums = coefficients.size, np.zeros(_BLOCK)
    for block in range(0, out.size, _BLOCK):
        target = out[block : block + _BLOCK]
        first, last = start + block, start + block + target.size
        total, i = sums[: target.size], 0
        if num_tasks > 3:
            total[:] = 0.0
        while i + 3 < num_tasks:
            a = _row(values, row_stride, i, first, last)
            b = _row(values, row_stride, i + 1, first, last)
            c = _row(values, row_stride, i + 2, first, last)
            _plus_three(total, total, coefficients[i:], a, b, c)
            i += 3
        a = _row(values, row_stride, i, first, last)
        if i + 1 == num_tasks:
            _plus_one(target, total, coefficients[i:], a)
            continue
        b = _row(values, row_stride, i + 1, first, last)
        if i + 2 == num_tasks:
            _plus_two(target, total, coefficients[i:], a, b)
            continue
        c = _row(values, row_stride, i + 2, first, last)
        _plus_three(target, total, coefficients[i:], a, b, c)


@_compiled
def _plus_one(
    out: NDArray[Any], total: NDArray[np.float64], factors: NDArray[np.float64], a: NDArray[Any]
) -> None:
    f = factors[0]
    for k in range(out.size):
        out[k] = total[k] + f * a[k]


@_compiled
def _plus_two(
    out: NDArray[Any],
    total: NDArray[np.float64],
    factors: NDArray[np.float64],
    a: NDArray[Any],
    b: NDArray[Any],
) -> None:
    f, g = factors[0], factors[1]
    for k in range(out.size):
        out[k] = total[k] + (f * a[k] + g * b[k])


@_compiled
def _plus_three(
    out: NDArray[Any],
    total: NDArray[np.float64],
    factors: NDArray[np.float64],
    a: NDArray[Any],
    b: NDArray[Any],
    c: NDArray[Any],
) -> None:
    f, g, h = factors[0], factors[1], factors[2]
    for k in range(out.size):
        out[k] = total[k] + (f * a[k] + g * b[k] + h * c[k])


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
