"""The shared bottom is linear layers and heads, each task's own copies where it is asked for."""

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.contract import BodyInputs, MultiTaskBody
from recsys_mtl.model.bodies.shared_bottom import SharedBottom
from tests.unit.model.small_bodies import (
    TASK_NAMES,
    fresh_body,
    fresh_masks,
    logits_of,
    shape_of,
    shared_bottom,
)

# B batch rows, E columns of pooled embeddings, F dense inputs, T tasks
BATCH = 7


def fresh_inputs() -> BodyInputs:
    return BodyInputs(torch.randn(BATCH, 8), torch.randn(BATCH, 3))


def every_parameter(body: MultiTaskBody) -> dict[str, nn.Parameter]:
    everything = body.shared_parameters()
    for task in range(len(TASK_NAMES)):
        everything |= body.task_parameters(task)
    return everything


def plain_logits(
    body: MultiTaskBody, inputs: BodyInputs, masks: dict[str, Tensor], task: str, head_layers: int
) -> Tensor:
    """[B] One task's logits by the names of its parameters alone."""
    parameters = every_parameter(body)
    hidden, depth = torch.cat(inputs, dim=1), 0
    while any(name.startswith(f"bottom.layers.{depth}.") for name in parameters):
        shared = f"bottom.layers.{depth}"
        name = shared if f"{shared}.weight" in parameters else f"{shared}.{task}"
        hidden = hidden @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]
        hidden = hidden.clamp(min=0) * masks.get(shared, torch.ones(()))
        depth += 1
    for place in range(head_layers):  # a ReLU stands between two
        name = f"heads.{task}.{2 * place}"
        hidden = hidden @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]
        hidden = hidden.clamp(min=0) if place < head_layers - 1 else hidden
    return hidden[:, 0]


OWN = {"none": (), "first": (0,), "middle": (1,), "last": (2,), "outer": (0, 2), "all": (0, 1, 2)}


@pytest.mark.parametrize("dropout", [False, True], ids=["all units", "dropout"])
@pytest.mark.parametrize("heads", [(), (8,), (8, 4)])
@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_each_task_s_logits_are_those_of_its_layers_one_after_the_other(
    own: tuple[int, ...], heads: tuple[int, ...], dropout: bool
) -> None:
    body = fresh_body(shared_bottom(9, 8, 7, own=own, heads=heads), shape_of())
    part_ways(body)
    inputs = fresh_inputs()
    masks = fresh_masks(body, BATCH) if dropout else {}
    expected = [plain_logits(body, inputs, masks, task, len(heads) + 1) for task in TASK_NAMES]
    torch.testing.assert_close(logits_of(body, inputs, masks), torch.stack(expected, dim=1))


def part_ways(body: MultiTaskBody) -> None:
    """Copies of a layer are equal before training: change each by its own."""
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def test_each_logit_comes_from_the_head_of_its_own_task() -> None:
    body, inputs = fresh_body(shared_bottom(9, 6), shape_of()), fresh_inputs()
    before = logits_of(body, inputs, {})
    with torch.no_grad():
        for parameter in body.task_parameters(1).values():
            parameter.add_(1.0)
    changed = (logits_of(body, inputs, {}) != before).any(dim=0)
    assert changed.tolist() == [False, True, False]


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_a_task_s_copies_begin_as_the_shared_layer_would(own: tuple[int, ...]) -> None:
    seed = torch.seed() % 2**31
    print("seed", seed)
    layers = [f"bottom.layers.{depth}" for depth in own]
    bodies = []
    for task_specific in ((), layers):
        torch.manual_seed(seed)
        bodies.append(every_parameter(SharedBottom(shape_of(), (9, 8, 7), (5,), task_specific)))
    shared, parted = bodies
    for name, parameter in shared.items():
        layer, _, kind = name.rpartition(".")
        names = [f"{layer}.{task}.{kind}" for task in TASK_NAMES] if layer in layers else [name]
        for copy in names:
            assert torch.equal(parted[copy], parameter), copy
    memories = {parameter.data_ptr() for parameter in parted.values()}
    assert len(memories) == len(parted)


def test_parameters_are_named_by_layer_and_task() -> None:
    body = fresh_body(shared_bottom(9, 6, own=(1,), heads=(5,)), shape_of())
    assert [*body.shared_parameters()] == ["bottom.layers.0.weight", "bottom.layers.0.bias"]
    assert body.shared_layers() == {
        "bottom.layers.0": ("bottom.layers.0.weight", "bottom.layers.0.bias")
    }
    assert [*body.task_parameters(1)] == [
        "bottom.layers.1.cart.weight",
        "bottom.layers.1.cart.bias",
        "heads.cart.0.weight",
        "heads.cart.0.bias",
        "heads.cart.2.weight",
        "heads.cart.2.bias",
    ]


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_a_depth_has_one_dropout_site_whether_its_layer_is_shared_or_not(
    own: tuple[int, ...],
) -> None:
    body = fresh_body(shared_bottom(9, 8, 7, own=own), shape_of())
    assert body.dropout_sites() == {
        "bottom.layers.0": 9,
        "bottom.layers.1": 8,
        "bottom.layers.2": 7,
    }


@pytest.mark.parametrize(
    ("own", "columns"),
    [((), [7]), ((2,), [8]), ((1, 2), [9]), ((0,), [8, 3]), ((0, 2), [8, 3])],
)
def test_tasks_part_at_the_first_layer_that_is_not_shared(
    own: tuple[int, ...], columns: list[int]
) -> None:
    body = fresh_body(shared_bottom(9, 8, 7, own=own), shape_of())
    parts = body.representation(fresh_inputs(), {})
    assert [part.shape for part in parts] == [(BATCH, width) for width in columns]
