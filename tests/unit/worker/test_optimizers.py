"""The dense optimizer is torch's own on the combined gradient, but for steps that are skipped."""

import copy
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.config import AdamConfig, AdamWConfig, DenseConfig, SgdConfig
from recsys_mtl.gradients.operations import operations_of
from recsys_mtl.model.flat_memory import FlatMemory
from recsys_mtl.worker.learning_rate import warm_up_factor
from recsys_mtl.worker.optimizers import DenseOptimizer

ADAM = AdamConfig(learning_rate=0.03, beta1=0.8, beta2=0.95, epsilon=1e-3)
ADAMW = AdamWConfig(
    kind="adamw", learning_rate=0.03, beta1=0.8, beta2=0.95, epsilon=1e-3, weight_decay=0.5
)
SGD = SgdConfig(kind="sgd", learning_rate=0.1)
LAYERS = {
    "shared": {"bottom.weight": (6, 5), "bottom.bias": (6,), "above.weight": (2, 2)},
    "task_specific": {"heads.purchase.weight": (1, 6), "heads.cart.weight": (1, 3)},
}
TASKS = 3
TORCH = operations_of("torch")
KEEP = torch.tensor(False)
SKIP = torch.tensor(True)


class Trained(NamedTuple):
    """What an optimizer moves."""

    shared: FlatMemory
    task_specific: FlatMemory

    @property
    def vectors(self) -> list[Tensor]:
        return [self.shared.vector, self.task_specific.vector]

    def optimizer(self, settings: DenseConfig) -> DenseOptimizer:
        return DenseOptimizer(settings, *self.vectors, TORCH)

    def state_of(self, optimizer: DenseOptimizer) -> dict[str, Tensor]:
        return optimizer.state_dict(self.shared, self.task_specific)


def fresh() -> Trained:
    """Parameters in float64, each in a layer of its own."""
    print("seed", torch.seed())
    memories = []
    for shapes in LAYERS.values():
        parameters = {n: nn.Parameter(torch.randn(s).double()) for n, s in shapes.items()}
        layers = {name: (name,) for name in shapes}
        memories.append(FlatMemory(parameters, layers, torch.device("cpu")))
    return Trained(*memories)


def copied(trained: Trained) -> Trained:
    return copy.deepcopy(trained)


def plain(optimizer: DenseConfig, vectors: list[Tensor]) -> torch.optim.Optimizer:
    """torch's optimizer without fused kernels."""
    if isinstance(optimizer, SgdConfig):
        return torch.optim.SGD(vectors, lr=optimizer.learning_rate, fused=False, foreach=False)
    adam = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3, "fused": False, "foreach": False}
    if isinstance(optimizer, AdamWConfig):
        return torch.optim.AdamW(vectors, weight_decay=0.5, **adam)
    return torch.optim.Adam(vectors, **adam)


def draw_gradients(trained: Trained) -> tuple[Tensor, Tensor, Tensor]:
    """Task gradients [T, P], coefficients [T], and the gradient of the tasks' own, [H]; zeros in
    the padding."""
    rows, own = trained.shared.rows(TASKS), trained.task_specific.rows(1)[0]
    for memory, row in [*((trained.shared, row) for row in rows), (trained.task_specific, own)]:
        for view in memory.views(row).values():
            view.normal_()
    return rows, torch.randn(TASKS, dtype=torch.float64), own


def clones(vectors: Iterable[Tensor]) -> list[Tensor]:
    return [vector.clone() for vector in vectors]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def numbers(state: dict[str, Tensor]) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in state.items()}


each = pytest.mark.parametrize("settings", [ADAM, ADAMW, SGD])


@each
def test_steps_are_those_of_torch_s_unfused_optimizer(settings: DenseConfig) -> None:
    found = fresh()
    expected = clones(found.vectors)
    ours, theirs = found.optimizer(settings), plain(settings, expected)
    for step in range(8):
        gradients, factor = draw_gradients(found), warm_up_factor(step, 3)
        ours.step(*gradients, skip=KEEP, factor=factor)
        rows, coefficients, own = gradients
        for vector, gradient in zip(expected, (coefficients @ rows, own), strict=True):
            vector.grad = gradient
        theirs.param_groups[0]["lr"] = factor * settings.learning_rate
        theirs.step()
        assert_same(found.vectors, expected)


@each
@pytest.mark.parametrize("spoil", [torch.zeros_like, lambda g: g / 0, lambda g: g])
def test_a_skipped_step_moves_nothing_and_does_not_count(
    settings: DenseConfig, spoil: Callable[[Tensor], Tensor]
) -> None:
    found = fresh()
    undisturbed = copied(found)
    ours, other = found.optimizer(settings), undisturbed.optimizer(settings)
    for _ in range(3):
        gradients = draw_gradients(found)
        ours.step(*clones(gradients), skip=KEEP, factor=1.0)
        other.step(*gradients, skip=KEEP, factor=1.0)
        before = numbers(found.state_of(ours))
        ours.step(*[spoil(g) for g in draw_gradients(found)], skip=SKIP, factor=1.0)
        assert_same(found.vectors, undisturbed.vectors)
        assert numbers(found.state_of(ours)) == before
    assert numbers(found.state_of(ours)) == numbers(undisturbed.state_of(other))


@each
def test_state_loaded_in_place_goes_on_as_if_undisturbed(settings: DenseConfig) -> None:
    undisturbed = fresh()
    first = undisturbed.optimizer(settings)
    for _ in range(3):
        first.step(*draw_gradients(undisturbed), skip=KEEP, factor=1.0)
    saved = copy.deepcopy(undisturbed.state_of(first))
    resumed = copied(undisturbed)
    second = resumed.optimizer(settings)
    state = resumed.state_of(second)
    assert state.keys() == saved.keys()
    for name, tensor in state.items():
        tensor.copy_(saved[name])
    for _ in range(3):
        gradients = draw_gradients(undisturbed)
        first.step(*clones(gradients), skip=KEEP, factor=1.0)
        second.step(*gradients, skip=KEEP, factor=1.0)
        assert_same(resumed.vectors, undisturbed.vectors)
    assert numbers(resumed.state_of(second)) == numbers(undisturbed.state_of(first))


@pytest.mark.parametrize("settings", [ADAM, ADAMW])
def test_adam_s_state_has_the_parameters_names_and_shapes(settings: DenseConfig) -> None:
    trained = fresh()
    shapes = {n: tuple(t.shape) for n, t in trained.state_of(trained.optimizer(settings)).items()}
    parameters = LAYERS["shared"] | LAYERS["task_specific"]
    expected = {
        f"{moment}.{name}": shape
        for moment in ("first_moment", "second_moment")
        for name, shape in parameters.items()
    }
    assert shapes == expected | {"adam_steps.shared": (), "adam_steps.task_specific": ()}


def test_each_name_has_the_moments_of_its_own_parameter() -> None:
    trained = fresh()
    optimizer = trained.optimizer(ADAM)
    rows, coefficients, own = draw_gradients(trained)
    optimizer.step(rows, coefficients, own, skip=KEEP, factor=1.0)
    state = trained.state_of(optimizer)
    for memory, gradient in zip(trained, (coefficients @ rows, own), strict=True):
        for name, view in memory.views(gradient).items():
            torch.testing.assert_close(state[f"first_moment.{name}"], 0.2 * view)
            torch.testing.assert_close(state[f"second_moment.{name}"], 0.05 * view.square())


def test_adam_s_state_is_there_before_the_first_step_and_counts_steps() -> None:
    trained = fresh()
    optimizer = trained.optimizer(ADAM)
    before = trained.state_of(optimizer)
    assert not any(tensor.any() for tensor in before.values())
    optimizer.step(*draw_gradients(trained), skip=KEEP, factor=1.0)
    optimizer.step(*draw_gradients(trained), skip=SKIP, factor=1.0)
    after = trained.state_of(optimizer)
    assert after.keys() == before.keys()
    assert after["adam_steps.shared"] == after["adam_steps.task_specific"] == 1.0


def test_weights_and_biases_decay_by_the_learning_rate_of_the_step() -> None:
    trained = fresh()
    before = clones(trained.vectors)
    still = [torch.zeros_like(tensor) for tensor in draw_gradients(trained)]
    trained.optimizer(ADAMW).step(*still, skip=KEEP, factor=0.25)
    assert_same(trained.vectors, [(1 - 0.25 * 0.03 * 0.5) * vector for vector in before])


def test_gradient_descent_keeps_no_state() -> None:
    trained = fresh()
    optimizer = trained.optimizer(SGD)
    optimizer.step(*draw_gradients(trained), skip=KEEP, factor=1.0)
    assert trained.state_of(optimizer) == {}
