"""Which backend a name stands for, and what is said where it cannot run."""

import importlib.util
import logging
import subprocess
import sys

import pytest
import torch

from recsys_mtl.gradients import gradops, resolve_backend
from recsys_mtl.gradients.backend import _log_choice


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.parametrize(
    ("device", "num_tasks", "backend"),
    [("cuda", 2, "triton"), ("cuda:1", 16, "triton"), ("cuda", 17, "torch"), ("cpu", 2, "torch")],
)
def test_auto_is_triton_on_cuda_up_to_16_tasks_and_torch_elsewhere(
    device: str, num_tasks: int, backend: str
) -> None:
    assert resolve_backend("auto", torch.device(device), num_tasks=num_tasks) == backend


def test_auto_logs_its_choice_once(caplog: pytest.LogCaptureFixture) -> None:
    _log_choice.cache_clear()
    with caplog.at_level(logging.INFO, logger="recsys_mtl.gradients.backend"):
        resolve_backend("torch", "cpu", num_tasks=3)
        assert not caplog.messages
        for _ in range(3):
            resolve_backend("auto", "cpu", num_tasks=3)
    assert caplog.messages == ["GradOPS backend: torch, for 3 tasks on a cpu device"]


def test_a_backend_asked_for_by_name_is_never_replaced() -> None:
    assert resolve_backend("torch", "cuda", num_tasks=2) == "torch"
    assert resolve_backend("triton", "cuda", num_tasks=2) == "triton"


def test_triton_on_a_cpu_is_refused_without_the_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=r"on a cpu device; choose 'torch' or 'auto', or set TRIT"):
        resolve_backend("triton", "cpu", num_tasks=2)
    with pytest.raises(ValueError, match="choose 'torch'"):
        gradops(torch.ones(2, 3), alpha=0.0, backend="triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert resolve_backend("triton", "cpu", num_tasks=2) == "triton"
    with pytest.raises(ValueError, match="on a meta device"):
        resolve_backend("triton", "meta", num_tasks=2)


def test_triton_with_more_than_16_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 16 tasks and there are 17; choose 'torch'"):
        resolve_backend("triton", "cuda", num_tasks=17)


@pytest.mark.parametrize("name", ["auto", "triton"])
def test_triton_that_is_not_installed_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="not installed; install it or choose 'torch'"):
        resolve_backend(name, "cuda", num_tasks=2)  # type: ignore[arg-type]


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="'numpy'; it must be 'auto', 'torch' or 'triton'"):
        resolve_backend("numpy", "cpu", num_tasks=2)  # type: ignore[arg-type]


def test_torch_backend_runs_without_triton() -> None:
    program = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from recsys_mtl.gradients import gradops\n"
        "print(gradops(torch.eye(2), alpha=0.0).update.tolist())\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "[1.0, 1.0]\n", run.stderr
