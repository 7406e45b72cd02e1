"""The dense optimizer is torch's own on the combined gradient, but for steps that are skipped."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from recsys_mtl.config import AdamConfig, SgdConfig
from recsys_mtl.gradients.operations import operations_of
from recsys_mtl.worker.optimizers import DenseOptimizer, warm_up_factor

ADAM = AdamConfig(learning_rate=0.03, beta1=0.8, beta2=0.95, epsilon=1e-3)
SGD = SgdConfig(kind="sgd", learning_rate=0.1)
SIZES = (40, 9)
TASKS = 3
TORCH = operations_of("torch")
KEEP = torch.tensor(False)
SKIP = torch.tensor(True)


def plain(optimizer: AdamConfig | SgdConfig, vectors: list[Tensor]) -> torch.optim.Optimizer:
    """torch's optimizer without fused kernels."""
    if isinstance(optimizer, SgdConfig):
        return torch.optim.SGD(vectors, lr=optimizer.learning_rate, fused=False, foreach=False)
    return torch.optim.Adam(
        vectors, lr=0.03, betas=(0.8, 0.95), eps=1e-3, fused=False, foreach=False
    )


def fresh_vectors() -> list[Tensor]:
    print("seed", torch.seed())
    return [torch.randn(size, dtype=torch.float64) for size in SIZES]


def draw_gradients() -> tuple[Tensor, Tensor, Tensor]:
    """Task gradients [T, 40], coefficients [T], and the heads' gradient [9]."""
    return tuple(torch.randn(s, dtype=torch.float64) for s in ((TASKS, 40), (TASKS,), (9,)))


def clones(vectors: Iterable[Tensor]) -> list[Tensor]:
    return [vector.clone() for vector in vectors]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def every_number(state: dict[str, Any]) -> list[list[float]]:
    return [t.flatten().tolist() for vector in state.values() for t in vector.values()]


both = pytest.mark.parametrize("optimizer", [ADAM, SGD])


@both
def test_steps_are_those_of_torch_s_unfused_optimizer(optimizer: AdamConfig | SgdConfig) -> None:
    found = fresh_vectors()
    expected = clones(found)
    ours, theirs = DenseOptimizer(optimizer, *found, TORCH), plain(optimizer, expected)
    for step in range(8):
        gradients, factor = draw_gradients(), warm_up_factor(step, 3)
        ours.step(*gradients, skip=KEEP, factor=factor)
        rows, coefficients, own = gradients
        for vector, gradient in zip(expected, (coefficients @ rows, own), strict=True):
            vector.grad = gradient
        theirs.param_groups[0]["lr"] = factor * optimizer.learning_rate
        theirs.step()
        assert_same(found, expected)


@both
@pytest.mark.parametrize("spoil", [torch.zeros_like, lambda g: g / 0, lambda g: g])
def test_a_skipped_step_moves_nothing_and_does_not_count(
    optimizer: AdamConfig | SgdConfig, spoil: Callable[[Tensor], Tensor]
) -> None:
    found = fresh_vectors()
    undisturbed = clones(found)
    ours, other = (
        DenseOptimizer(optimizer, *found, TORCH),
        DenseOptimizer(optimizer, *undisturbed, TORCH),
    )
    for _ in range(3):
        gradients = draw_gradients()
        ours.step(*clones(gradients), skip=KEEP, factor=1.0)
        other.step(*gradients, skip=KEEP, factor=1.0)
        before = every_number(ours.state())
        ours.step(*[spoil(g) for g in draw_gradients()], skip=SKIP, factor=1.0)
        assert_same(found, undisturbed)
        assert every_number(ours.state()) == before
    assert every_number(ours.state()) == every_number(other.state())


@both
def test_state_loaded_in_place_goes_on_as_if_undisturbed(optimizer: AdamConfig | SgdConfig) -> None:
    undisturbed = fresh_vectors()
    first = DenseOptimizer(optimizer, *undisturbed, TORCH)
    for _ in range(3):
        first.step(*draw_gradients(), skip=KEEP, factor=1.0)
    saved = copy.deepcopy(first.state())
    resumed = clones(undisturbed)
    second = DenseOptimizer(optimizer, *resumed, TORCH)
    for key, tensors in second.state().items():
        assert tensors.keys() == saved[key].keys()
        for name, tensor in tensors.items():
            tensor.copy_(saved[key][name])
    for _ in range(3):
        gradients = draw_gradients()
        first.step(*clones(gradients), skip=KEEP, factor=1.0)
        second.step(*gradients, skip=KEEP, factor=1.0)
        assert all(torch.equal(a, b) for a, b in zip(undisturbed, resumed, strict=True))
    assert every_number(second.state()) == every_number(first.state())


def test_adam_s_state_is_there_before_the_first_step_and_counts_steps() -> None:
    vectors = fresh_vectors()
    optimizer = DenseOptimizer(ADAM, *vectors, TORCH)
    assert [sorted(s) for s in optimizer.state().values()] == [
        ["exp_avg", "exp_avg_sq", "step"]
    ] * 2
    optimizer.step(*draw_gradients(), skip=KEEP, factor=1.0)
    optimizer.step(*draw_gradients(), skip=SKIP, factor=1.0)
    assert [s["step"].item() for s in optimizer.state().values()] == [1.0, 1.0]


def test_warm_up_rises_linearly_to_one_and_stays() -> None:
    factors = [warm_up_factor(step, 4) for step in range(7)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert warm_up_factor(0, 0) == 1.0
