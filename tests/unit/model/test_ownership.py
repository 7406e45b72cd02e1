"""What a body declares is what its losses depend on; anything else would train without an error."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.model.bodies.contract import BodyInputs, BodyShape, DropoutMasks, MultiTaskBody
from recsys_mtl.model.ownership import BodyError, trace_ownership
from tests.unit.model.small_bodies import (
    BODIES,
    TiedBody,
    fresh_body,
    mmoe,
    shape_of,
    shared_bottom,
)

# B batch rows, T tasks


def names_reached(output: Tensor, parameters: dict[str, nn.Parameter]) -> set[str]:
    """Those that a backward of the output gives a gradient, even one of zeros."""
    for parameter in parameters.values():
        parameter.grad = None
    output.sum().backward(retain_graph=True)
    return {name for name, parameter in parameters.items() if parameter.grad is not None}


@pytest.mark.parametrize("num_tasks", [1, 3])
@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)
def test_a_parameter_is_a_task_s_own_if_and_only_if_that_task_s_loss_alone_reaches_it(
    make: BodyFactory, num_tasks: int
) -> None:
    shape = shape_of(num_tasks=num_tasks)
    body = fresh_body(make, shape)
    trace_ownership(body, shape)
    shared = body.shared_parameters()
    own = [body.task_parameters(task) for task in range(num_tasks)]
    everything = shared | {name: p for names in own for name, p in names.items()}
    declared = {id(parameter) for parameter in everything.values()}
    assert declared == {id(parameter) for parameter in body.parameters()}
    representation = body.representation(BodyInputs(torch.randn(4, 8), torch.randn(4, 3)), {})
    reached = [
        names_reached(body.logits(representation, task, {}), everything)
        for task in range(num_tasks)
    ]
    for name in everything:
        tasks = [task for task in range(num_tasks) if name in reached[task]]
        if name in shared:  # with one task the shared ones stay shared, so that some always are
            assert len(tasks) > 1 or num_tasks == 1
        else:
            assert [name in parameters for parameters in own].index(True) == tasks[0]
            assert len(tasks) == 1


@pytest.mark.parametrize(
    ("make", "trunk", "above"),
    [
        (shared_bottom(9, 8, 7), (0, 1, 2), ()),
        (shared_bottom(9, 8, 7, own=(0,)), (), (1, 2)),
        (shared_bottom(9, 8, 7, own=(1,)), (0,), (2,)),
        (shared_bottom(9, 8, 7, own=(0, 2)), (), (1,)),
        (shared_bottom(9, 8, 7, own=(0, 1, 2)), (), ()),
    ],
)
def test_shared_layers_lie_below_the_first_task_specific_one_or_above_it(
    make: BodyFactory, trunk: tuple[int, ...], above: tuple[int, ...]
) -> None:
    found = trace_ownership(fresh_body(make, shape_of()), shape_of())

    def parameters(depths: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(f"bottom.layers.{d}.{kind}" for d in depths for kind in ("weight", "bias"))

    assert found.trunk == parameters(trunk)
    assert found.above == parameters(above)


def test_a_parameter_may_be_used_on_both_sides_of_the_representation() -> None:
    found = trace_ownership(fresh_body(TiedBody, shape_of()), shape_of())
    assert found.trunk == ("first.weight", "first.bias", "tied.weight", "tied.bias")
    assert found.above == ("tied.weight", "tied.bias", "scale")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (shared_bottom(7), (False,)),
        (shared_bottom(7, own=(0,)), (True, False)),
        (mmoe(2, 7), (False, True, False)),
    ],
)
def test_the_part_that_is_the_pooled_embeddings_is_known(
    make: BodyFactory, parts: tuple[bool, ...]
) -> None:
    assert trace_ownership(fresh_body(make, shape_of()), shape_of()).pooled_parts == parts


def test_a_trace_leaves_other_draws_alone() -> None:
    body = fresh_body(shared_bottom(7), shape_of())
    before = torch.get_rng_state()
    trace_ownership(body, shape_of())
    assert torch.equal(torch.get_rng_state(), before)


class SmallBody(MultiTaskBody):
    """A layer, one head per task and a bias that all share; wrong bodies are changes of it."""

    def __init__(self, shape: BodyShape) -> None:
        super().__init__()
        self.layer = nn.Linear(shape.input_width, 4)
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in shape.task_names)
        self.bias = nn.Parameter(torch.zeros(1))

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        return (torch.tanh(self.layer(torch.cat(inputs, dim=1))),)

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        logits: Tensor = self.heads[task](representation[0]).squeeze(1)
        return logits + self.bias

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return {"weight": self.layer.weight, "layer.bias": self.layer.bias, "bias": self.bias}

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        head = self.heads[task]
        return {f"heads.{task}.{name}": parameter for name, parameter in head.named_parameters()}

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return {"layer": ("weight", "layer.bias"), "bias": ("bias",)}


class Undeclared(SmallBody):
    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return {"weight": self.layer.weight, "layer.bias": self.layer.bias}


class SharedAndOwn(SmallBody):
    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        return super().task_parameters(task) | ({"bias": self.bias} if task == 2 else {})


class UnderTwoNames(SmallBody):
    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return super().shared_parameters() | {"layer.weight": self.layer.weight}

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return super().shared_layers() | {"again": ("layer.weight",)}


class TwoOfOneName(SmallBody):
    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        return dict(self.heads[task].named_parameters())


class SharedThoughOwn(SmallBody):
    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return super().shared_parameters() | {"heads.1.bias": self.heads[1].bias}

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        own = super().task_parameters(task)
        return {name: p for name, p in own.items() if name != "heads.1.bias"}

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return super().shared_layers() | {"head": ("heads.1.bias",)}


class OwnThoughShared(SmallBody):
    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return {"weight": self.layer.weight, "layer.bias": self.layer.bias}

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        return super().task_parameters(task) | ({"bias": self.bias} if task == 0 else {})

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return {"layer": ("weight", "layer.bias")}


class OwnOfAnother(SmallBody):
    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        return super().task_parameters({0: 1, 1: 0}.get(task, task))


class Unused(SmallBody):
    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        return super().logits(representation, task, masks) - self.bias.detach()

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        return (torch.tanh(torch.cat(inputs, dim=1) @ self.layer.weight.T),)


class OwnUnused(SmallBody):
    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        return representation[0].sum(dim=1) + self.bias


class OwnBelow(SmallBody):
    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        (hidden,) = super().representation(inputs, masks)
        return hidden, self.heads[2](hidden).squeeze(1)

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        hidden, last = representation
        return last + self.bias if task == 2 else super().logits((hidden,), task, masks)


class InNoLayer(SmallBody):
    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return {"layer": ("weight", "layer.bias")}


class InTwoLayers(SmallBody):
    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return {"layer": ("weight", "layer.bias"), "bias": ("bias", "weight")}


class OwnInLayer(SmallBody):
    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return super().shared_layers() | {"head": ("heads.0.weight",)}


NO_ONE, IN_LAYERS = "no task's loss depends on parameter", "must name each shared parameter once"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            Undeclared,
            "parameter 'bias' of the body Undeclared is declared nowhere and would never be "
            "trained; declare it in shared_parameters or task_parameters",
        ),
        (
            SharedAndOwn,
            "parameter 'bias' of the body SharedAndOwn is declared twice; declare it in "
            "shared_parameters or in one task's task_parameters",
        ),
        (
            UnderTwoNames,
            "parameter 'weight' of the body UnderTwoNames is declared twice, the second time as "
            "'layer.weight'; declare it in shared_parameters or in one task's task_parameters",
        ),
        (
            TwoOfOneName,
            "two parameters of the body TwoOfOneName are named 'weight'; give each a name of its "
            "own",
        ),
        (
            SharedThoughOwn,
            "parameter 'heads.1.bias' is declared as shared, but the loss of cart alone depends on "
            "it; declare it in that task's task_parameters",
        ),
        (
            OwnThoughShared,
            "parameter 'bias' is declared as task 'purchase''s own, but the loss of purchase, "
            "cart, wish depends on it; declare it in shared_parameters",
        ),
        (
            OwnOfAnother,
            "parameter 'heads.1.weight' is declared as task 'purchase''s own, but the loss of cart "
            "depends on it; declare it in that task's task_parameters",
        ),
        (Unused, f"{NO_ONE} 'layer.bias'; use it or remove it"),
        (OwnUnused, f"{NO_ONE} 'heads.0.weight'; use it or remove it"),
        (
            OwnBelow,
            "parameter 'heads.2.weight' is declared as one task's own, but the representation "
            "depends on it, below which no gradient of a task's own is taken; use it in logits "
            "alone",
        ),
        (
            InNoLayer,
            f"shared_layers of the body InNoLayer {IN_LAYERS}, and no other; look at 'bias'",
        ),
        (
            InTwoLayers,
            f"shared_layers of the body InTwoLayers {IN_LAYERS}, and no other; look at 'weight'",
        ),
        (
            OwnInLayer,
            f"shared_layers of the body OwnInLayer {IN_LAYERS}, and no other; look at "
            "'heads.0.weight'",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_in_a_sentence(
    make: Callable[[BodyShape], MultiTaskBody], sentence: str
) -> None:
    trace_ownership(fresh_body(SmallBody, shape_of()), shape_of())
    with pytest.raises(BodyError) as caught:
        trace_ownership(fresh_body(make, shape_of()), shape_of())
    assert str(caught.value) == sentence
