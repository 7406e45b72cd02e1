"""The kernels compiled for GPUs that need not be there: what ptxas makes of them.

Every launch goes through Triton's own launcher, which specialises each kernel to the arguments the
host functions pass, up to the point where it would load the binary.
"""

# T tasks, P shared parameters

import math
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from recsys_mtl.gradients import kernels

P = 65_536  # a whole number of blocks of every dtype, so that no thread is idle
THREADS = 128
CAPABILITIES = (80, 90, 100)
WIDE = ("v4.b32", "v2.b64")  # 16 bytes


class NoDevice:
    """Stands for the CUDA driver: names the target to compile for, and runs nothing."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)


@dataclass(frozen=True)
class Launch:
    kernel: Any
    num_programs: int
    arguments: tuple[Any, ...]

    def wide_bytes(self, direction: str) -> int:
        """What the 16-byte `ld` or `st` instructions of all threads move, each run once."""
        found = re.findall(rf"{direction}\.global\.(\S+)", self.kernel.asm["ptx"])
        return 16 * sum(width in WIDE for width in found) * THREADS * self.num_programs

    def narrow(self, direction: str) -> int:
        """How many narrower `ld` or `st` instructions a thread has."""
        found = re.findall(rf"{direction}\.global\.(\S+)", self.kernel.asm["ptx"])
        return sum(width not in WIDE for width in found)

    def spilled_bytes(self, folder: Path) -> int:
        """Bytes a thread of it keeps on the stack, where registers go that do not fit."""
        binary = folder / "kernel.cubin"
        binary.write_bytes(self.kernel.asm["cubin"])
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", str(binary)]
        report = subprocess.run(command, capture_output=True, text=True, check=True)
        usage = re.search(r"STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", report.stdout + report.stderr)
        assert usage, report
        return int(usage[1]) + int(usage[2])


Compile = Callable[[int, Callable[[], Any]], dict[str, Launch]]


@pytest.fixture(autouse=True, scope="module")
def compiled_kernels() -> None:
    assert not os.environ.get("TRITON_INTERPRET"), "these tests compile: unset TRITON_INTERPRET"


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Runs host code for a compute capability, and returns what it would have launched."""
    found: dict[str, Launch] = {}
    launch = JITFunction.run

    def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = launch(self, *arguments, grid=grid, warmup=True, **options)
        found[self.__name__] = Launch(kernel, math.prod(grid), arguments)
        return kernel

    def run(capability: int, host_code: Callable[[], Any]) -> dict[str, Launch]:
        found.clear()
        monkeypatch.setattr(driver, "_active", NoDevice(capability))
        host_code()
        return found

    monkeypatch.setattr(JITFunction, "run", compile_only)
    return run


def whole_step(gradients: Tensor) -> Tensor:
    """Every kernel once, on [T, P]; returns the update."""
    device = gradients.device
    gram = kernels.gram_matrix(gradients)
    result = kernels.gradops_coefficients(gram, alpha=0.3)
    update = kernels.combine_gradients(gradients, result.coefficients)
    kernels.combined_adam_step(
        gradients,
        result.coefficients,
        clip=torch.ones((), dtype=torch.float64, device=device),
        skip=torch.zeros((), dtype=torch.bool, device=device),
        parameter=torch.zeros_like(update),
        first_moment=torch.zeros_like(update),
        second_moment=torch.zeros_like(update),
        step=torch.zeros((), device=device),
        learning_rate=0.1,
        beta1=0.9,
        beta2=0.99,
        epsilon=1e-8,
        weight_decay=0.01,
    )
    return update


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("num_tasks", [2, 3, 8])
def test_float32_rows_are_moved_once_16_bytes_at_a_time_without_spills(
    launches: Compile, tmp_path: Path, num_tasks: int, capability: int
) -> None:
    found = launches(capability, lambda: whole_step(torch.zeros(num_tasks, P)))
    assert {name: launch.spilled_bytes(tmp_path) for name, launch in found.items()} == {
        "partial_products_kernel": 0,
        "sum_partials_kernel": 0,
        "coefficients_kernel": 0,
        "combine_kernel": 0,
        "adam_factors_kernel": 0,
        "combined_adam_kernel": 0,
    }
    row = P * 4
    products = found["partial_products_kernel"]
    blocks_per_program = products.arguments[4]
    assert products.wide_bytes("ld") * blocks_per_program == num_tasks * row
    assert products.narrow("ld") == 0
    combination, adam = found["combine_kernel"], found["combined_adam_kernel"]
    assert (combination.wide_bytes("ld"), combination.wide_bytes("st")) == (num_tasks * row, row)
    assert (combination.narrow("ld"), combination.narrow("st")) == (num_tasks, 0)
    assert (adam.wide_bytes("ld"), adam.wide_bytes("st")) == ((num_tasks + 3) * row, 3 * row)
    assert (adam.narrow("ld"), adam.narrow("st")) == (num_tasks + 4, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rows_of_other_dtypes_are_loaded_16_bytes_at_a_time_without_spills(
    launches: Compile, tmp_path: Path, dtype: torch.dtype
) -> None:
    found = launches(90, lambda: whole_step(torch.zeros(8, P, dtype=dtype)))
    assert not any(launch.spilled_bytes(tmp_path) for launch in found.values())
    products = found["partial_products_kernel"]
    assert products.wide_bytes("ld") * products.arguments[4] == 8 * P * dtype.itemsize
    assert found["combine_kernel"].wide_bytes("ld") == 8 * P * dtype.itemsize


@pytest.mark.parametrize("num_tasks", [1, 5, 16])
def test_kernels_compile_for_odd_columns_and_any_number_of_tasks(
    launches: Compile, num_tasks: int
) -> None:
    found = launches(90, lambda: whole_step(torch.zeros(num_tasks, 1_001)))
    assert len(found) == 6


def test_numbers_of_the_host_reach_the_kernels_in_float64(launches: Compile) -> None:
    # Triton makes every Python float a float32 unless told otherwise: 1 - beta2 would be 5e-5 off.
    found = launches(90, lambda: whole_step(torch.zeros(2, P)))
    for kernel, names in {
        "coefficients_kernel": ("alpha", "zero_sine_squared", "rounding_unit"),
        "adam_factors_kernel": ("learning_rate", "beta1", "beta2"),
        "combined_adam_kernel": ("beta1", "beta2", "epsilon", "decay"),
    }.items():
        signature = found[kernel].kernel.src.signature
        assert {signature[name] for name in names} == {"fp64"}


def test_host_code_reads_no_value_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []

    def nothing(self: Any, *arguments: Any, **options: Any) -> None:
        launched.append(self.__name__)

    def copied(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a copy to the host waits for the device")

    # Builds of torch without CUDA cannot change the current device.
    monkeypatch.setattr(torch.cuda, "_exchange_device", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "_maybe_exchange_device", lambda device: 0)
    monkeypatch.setattr(JITFunction, "run", nothing)
    monkeypatch.setattr(Tensor, "cpu", copied)
    with FakeTensorMode():  # of a device that is not there: reading one of its values raises
        update = whole_step(torch.empty(3, P, device="cuda"))
    assert update.device.type == "cuda"
    assert len(launched) == 6
