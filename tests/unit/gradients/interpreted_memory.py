"""The kernels that read the gradients, as Triton's interpreter runs them.

Run by `test_kernels.py`, in a process of its own.
"""

# T tasks, P shared parameters

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder

import recsys_mtl.gradients as plain
from recsys_mtl.gradients import kernels
from tests.unit.gradients.poison import draw, poisoned_outputs  # noqa: F401

all_dtypes = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64]
)


def assert_gram_is_exact(gradients: Tensor) -> None:
    """To 5e-13 of |g_i||g_j|, in every one of its entries."""
    exact = gradients.double() @ gradients.double().T
    norms = exact.diagonal().sqrt()
    errors = (kernels.gram_matrix(gradients) - exact).abs()
    assert (errors <= 5e-13 * torch.outer(norms, norms)).all()


def test_gram_of_a_hand_checked_pair() -> None:
    gram = kernels.gram_matrix(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    assert gram.tolist() == [[1.0, -1.0], [-1.0, 2.0]]
    assert gram.dtype == torch.float64


@pytest.mark.parametrize("num_tasks", [1, 2, 5, 8, 16])
def test_gram_holds_the_product_of_every_two_tasks(num_tasks: int) -> None:
    gradients = draw(num_tasks, 300)
    assert_gram_is_exact(gradients)
    assert torch.equal(kernels.gram_matrix(gradients), kernels.gram_matrix(gradients).T)


# One block is 512 columns of float32 and one program 8 blocks.
@pytest.mark.parametrize("num_columns", [1, 63, 511, 512, 513, 1023, 4096, 4097, 9001])
def test_gram_and_combination_cover_every_column(num_columns: int) -> None:
    gradients, coefficients = draw(2, num_columns), draw(2, dtype=torch.float64)
    assert_gram_is_exact(gradients)
    torch.testing.assert_close(
        kernels.combine_gradients(gradients, coefficients),
        plain.combine_gradients(gradients, coefficients),
        rtol=2e-7,
        atol=1e-14,
    )


def test_gradients_without_columns_have_a_zero_gram_and_an_empty_combination() -> None:
    gradients = torch.zeros(2, 0)
    assert kernels.gram_matrix(gradients).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert kernels.combine_gradients(gradients, torch.ones(2, dtype=torch.float64)).shape == (0,)


@all_dtypes
def test_gram_and_combination_lose_nothing_of_any_dtype(dtype: torch.dtype) -> None:
    gradients, coefficients = draw(3, 2_051, dtype=dtype), draw(3, dtype=torch.float64)
    assert_gram_is_exact(gradients)
    update = kernels.combine_gradients(gradients, coefficients)
    expected = plain.combine_gradients(gradients, coefficients)
    assert update.dtype == expected.dtype
    # Two sums in float64 may round to neighbours.
    torch.testing.assert_close(update, expected, rtol=2e-7, atol=1e-14)


def test_gram_is_accurate_where_all_entries_of_a_long_gradient_are_alike() -> None:
    print("seed", torch.seed())
    # Every partial sum rounds the same way, so errors add up instead of cancelling: to 8e-7 in
    # float32 blocks of 512 columns. The product is one float64 number, multiplied by P.
    entry, num_columns = torch.rand(1, 1), 1_400_003
    gram = kernels.gram_matrix(entry.repeat(1, num_columns))
    expected = num_columns * entry.double().square()
    torch.testing.assert_close(gram, expected, rtol=1e-13, atol=0)


def test_gram_is_accurate_where_float32_squares_underflow_or_overflow() -> None:
    assert_gram_is_exact(draw(3, 2_000) * torch.tensor([[1e-30], [1.0], [1e30]]))


@pytest.mark.parametrize(
    "view",
    [
        lambda memory: memory[:, :101],
        lambda memory: memory[::2],
        lambda memory: memory.T,
        lambda memory: memory[:, ::3],
        lambda memory: memory[:1, 5:].expand(4, -1),
        lambda memory: memory[:, :1].expand(-1, 70),
    ],
    ids=["padded rows", "every other row", "transposed", "every third column", "one row", "one"],
)
def test_gradients_may_lie_anyhow_in_memory(view: Any) -> None:
    gradients = view(draw(8, 128)[:, :120])[:16]
    coefficients = draw(len(gradients), dtype=torch.float64)
    assert torch.equal(
        kernels.gram_matrix(gradients), kernels.gram_matrix(gradients.clone().contiguous())
    )
    torch.testing.assert_close(
        kernels.combine_gradients(gradients, coefficients),
        plain.combine_gradients(gradients, coefficients),
    )


# Combine, clip and Adam


class Moved:
    """A parameter with Adam's moments and step count, moved by the kernel."""

    def __init__(self, parameter: Tensor) -> None:
        self.parameter = parameter.clone()
        self.first_moment, self.second_moment = torch.zeros_like(parameter).repeat(2, 1).unbind()
        self.step = torch.zeros(())

    def move(
        self,
        gradients: Tensor,
        coefficients: Tensor,
        clip: float = 1.0,
        skip: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        kernels.combined_adam_step(
            gradients,
            coefficients,
            clip=torch.tensor(clip, dtype=torch.float64),
            skip=torch.tensor(skip),
            parameter=self.parameter,
            first_moment=self.first_moment,
            second_moment=self.second_moment,
            step=self.step,
            learning_rate=0.1,
            beta1=0.9,
            beta2=0.99,
            epsilon=1e-8,
            weight_decay=weight_decay,
        )

    def state(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.parameter, self.first_moment, self.second_moment, self.step


def test_first_adam_step_of_a_hand_checked_pair() -> None:
    moved = Moved(torch.tensor([1.0, 2.0]))
    coefficients = torch.tensor([2.0, 1.5], dtype=torch.float64)
    moved.move(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]), coefficients, clip=0.5)
    torch.testing.assert_close(moved.parameter, torch.tensor([0.9, 1.9]))
    torch.testing.assert_close(moved.first_moment, torch.tensor([0.025, 0.075]))
    torch.testing.assert_close(moved.second_moment, torch.tensor([0.000625, 0.005625]))
    assert moved.step == 1


def test_a_parameter_decays_by_its_share_before_it_moves() -> None:
    moved = Moved(torch.tensor([1.0, 2.0]))
    coefficients = torch.tensor([2.0, 1.5], dtype=torch.float64)
    moved.move(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]), coefficients, clip=0.5, weight_decay=0.1)
    torch.testing.assert_close(moved.parameter, torch.tensor([0.99 - 0.1, 1.98 - 0.1]))
    torch.testing.assert_close(moved.first_moment, torch.tensor([0.025, 0.075]))


@all_dtypes
@pytest.mark.parametrize(("num_columns", "weight_decay"), [(64, 0.0), (1_537, 0.0), (129, 0.7)])
def test_steps_equal_those_of_combination_clip_and_fused_adam(
    dtype: torch.dtype, num_columns: int, weight_decay: float
) -> None:
    parameter_dtype = torch.promote_types(dtype, torch.float32)
    start = draw(num_columns, dtype=parameter_dtype)
    moved, expected = Moved(start), torch.nn.Parameter(start.clone())
    kind = torch.optim.AdamW if weight_decay else torch.optim.Adam
    adam = kind(
        [expected], lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=weight_decay, fused=True
    )
    for skip in (False, True, False, False):
        # One sign a column: Adam divides by the gradient's size, and so would multiply the rounding
        # of tasks that cancel.
        signs = draw(1, num_columns, dtype=dtype).sign()
        gradients = draw(3, num_columns, dtype=dtype).abs() * signs
        coefficients = draw(3, dtype=torch.float64).abs()
        clip = float(torch.rand(()))
        expected.grad = plain.combine_gradients(gradients, clip * coefficients)
        adam.found_inf = torch.tensor(float(skip))  # type: ignore[attr-defined]
        adam.step()
        moved.move(gradients, coefficients, clip, skip, weight_decay)
    state = adam.state[expected]
    accuracy = 4 * torch.finfo(parameter_dtype).eps
    expected_state = (expected.detach(), state["exp_avg"], state["exp_avg_sq"], state["step"])
    for found, value in zip(moved.state(), expected_state, strict=True):
        atol = accuracy * float(value.abs().amax())
        torch.testing.assert_close(found, value, rtol=accuracy, atol=atol)
    assert moved.step == 3


def test_nothing_moves_in_a_skipped_step_that_is_not_finite() -> None:
    moved = Moved(draw(70))
    gradients, coefficients = draw(2, 70), torch.ones(2, dtype=torch.float64)
    moved.move(gradients, coefficients)
    before = [tensor.clone() for tensor in moved.state()]
    spoilt = gradients * math.nan, coefficients * math.nan
    moved.move(*spoilt, clip=math.nan, skip=True, weight_decay=0.5)
    for found, value in zip(moved.state(), before, strict=True):
        assert torch.equal(found, value)


def test_adam_step_writes_no_column_beyond_the_parameter() -> None:
    memory = torch.zeros(100)
    moved = Moved(memory)
    moved.parameter, moved.first_moment = memory[:70], memory[70:][:0]
    with pytest.raises(ValueError, match=r"first_moment has shape \(0,\)"):
        moved.move(draw(2, 70), torch.ones(2, dtype=torch.float64))
    moved.first_moment, moved.second_moment = torch.zeros(2, 70).unbind()
    moved.move(torch.ones(2, 70), torch.ones(2, dtype=torch.float64))
    assert (memory[:70] < 0).all()
    assert not memory[70:].any()


# Memory traffic


class Traffic:
    """Every address that the kernels load and store, in order, with its size in bytes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.loads: list[tuple[np.ndarray[Any, Any], int]] = []
        self.stores: list[tuple[np.ndarray[Any, Any], int]] = []
        load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store

        def counted_load(builder: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
            self.loads.append(self._addresses(pointers, mask))
            return load(builder, pointers, mask, *rest)

        def counted_store(builder: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
            self.stores.append(self._addresses(pointers, mask))
            return store(builder, pointers, value, mask, *rest)

        patch.setattr(InterpreterBuilder, "create_masked_load", counted_load)
        patch.setattr(InterpreterBuilder, "create_masked_store", counted_store)

    @staticmethod
    def _addresses(pointers: Any, mask: Any) -> tuple[np.ndarray[Any, Any], int]:
        bytes_each = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        return pointers.data[np.broadcast_to(mask.data, pointers.data.shape)], bytes_each

    def loaded(self) -> int:
        return sum(addresses.size * size for addresses, size in self.loads)

    def stored(self) -> int:
        return sum(addresses.size * size for addresses, size in self.stores)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    return Traffic(monkeypatch)


# T tasks, P columns in N programs of the kernel, s bytes an entry of the gradients
SIZES = pytest.mark.parametrize(
    ("dtype", "num_programs_of_gram", "num_programs_of_update"),
    [(torch.float32, 2, 10), (torch.bfloat16, 1, 5), (torch.float64, 3, 20)],
)
P = 5_056


@SIZES
@pytest.mark.parametrize("num_tasks", [2, 3, 8])
def test_kernels_move_the_bytes_they_state_and_no_more(
    traffic: Traffic,
    num_tasks: int,
    dtype: torch.dtype,
    num_programs_of_gram: int,
    num_programs_of_update: int,
) -> None:
    T, N, s = num_tasks, num_programs_of_gram, dtype.itemsize
    u = max(4, s)
    gradients, coefficients = draw(T, P, dtype=dtype), draw(T, dtype=torch.float64)

    gram = kernels.gram_matrix(gradients)
    partials = 4 * T * (T + 1) * N
    assert (traffic.loaded(), traffic.stored()) == (T * P * s + partials, partials + 8 * T**2)

    traffic.loads, traffic.stores = [], []
    kernels.gradops_coefficients(gram, alpha=0.0)
    assert (traffic.loaded(), traffic.stored()) == (8 * T**2, T**2 + 32 * T + 2)

    traffic.loads, traffic.stores = [], []
    update = kernels.combine_gradients(gradients, coefficients)
    cached = 8 * T * num_programs_of_update
    assert (traffic.loaded(), traffic.stored()) == (T * P * s + cached, P * u)

    moved = Moved(update)
    for skip in (False, True):
        traffic.loads, traffic.stores = [], []
        moved.move(gradients, coefficients, skip=skip)
        cached = (8 * T + 8 + 1 + 16) * num_programs_of_update
        once = (1 + 4, 4 + 16)
        expected = (T * P * s + 3 * P * u + cached + once[0], 3 * P * u + once[1])
        flags = num_programs_of_update + 1
        assert (traffic.loaded(), traffic.stored()) == ((flags, 0) if skip else expected)
