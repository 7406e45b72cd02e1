"""From the configuration to a body whose initial parameters follow from the seed alone."""

import secrets
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.config import Model
from recsys_mtl.model.bodies.build import body_factory, build_body
from recsys_mtl.model.bodies.contract import MultiTaskBody
from tests.unit.model.small_bodies import shape_of

MODELS = {
    "shared bottom": {"bottom_hidden_sizes": (32, 16), "head_hidden_sizes": (8,)},
    "task-specific layer": {
        "bottom_hidden_sizes": (32, 16),
        "task_specific_layers": ("bottom.layers.1",),
    },
    "experts": {
        "body": {"kind": "mmoe", "experts": 3, "expert_hidden_sizes": (32, 16)},
        "head_hidden_sizes": (8,),
    },
}
every_model = pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)


def built(settings: dict[str, object], seed: int) -> MultiTaskBody:
    model = Model.model_validate(settings)
    return build_body(body_factory(model), shape_of(), seed)


def fresh_seed() -> int:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return seed


def shapes_of(parameters: dict[str, nn.Parameter]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in parameters.items()}


@every_model
def test_the_same_seed_builds_the_same_parameters_and_leaves_other_draws_alone(
    settings: dict[str, object],
) -> None:
    seed = fresh_seed()
    torch.manual_seed(seed + 1)
    untouched = torch.rand(3)
    torch.manual_seed(seed + 1)
    first = built(settings, seed).state_dict()
    assert torch.equal(torch.rand(3), untouched)
    second = built(settings, seed).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_model
def test_another_seed_builds_other_parameters(settings: dict[str, object]) -> None:
    seed = fresh_seed()
    first, second = (built(settings, seed + i).state_dict() for i in (0, 1))
    assert not any(torch.equal(first[name], second[name]) for name in first)


def test_a_shared_bottom_begins_as_torch_s_layers_do_drawn_from_the_inputs_up() -> None:
    seed = fresh_seed()
    expected: list[Tensor] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for widths in ((11, 32, 16), *[(16, 8, 1)] * 3):
            for a, b in pairwise(widths):
                expected += nn.Linear(a, b).parameters()
    body = built(MODELS["shared bottom"], seed)
    found = list(body.shared_parameters().values())
    for task in range(3):
        found += body.task_parameters(task).values()
    assert len(found) == len(expected)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_the_configured_widths_and_layers_are_built() -> None:
    bottom, parted, experts = (built(settings, 0) for settings in MODELS.values())
    assert shapes_of(bottom.shared_parameters()) == {
        "bottom.layers.0.weight": (32, 11),
        "bottom.layers.0.bias": (32,),
        "bottom.layers.1.weight": (16, 32),
        "bottom.layers.1.bias": (16,),
    }
    assert shapes_of(bottom.task_parameters(0)) == {
        "heads.purchase.0.weight": (8, 16),
        "heads.purchase.0.bias": (8,),
        "heads.purchase.2.weight": (1, 8),
        "heads.purchase.2.bias": (1,),
    }
    assert [*parted.shared_layers()] == ["bottom.layers.0"]
    assert shapes_of(parted.task_parameters(0)) == {
        "bottom.layers.1.purchase.weight": (16, 32),
        "bottom.layers.1.purchase.bias": (16,),
        "heads.purchase.0.weight": (1, 16),
        "heads.purchase.0.bias": (1,),
    }
    assert shapes_of(experts.shared_parameters()) == {
        "experts.0.weight": (3, 32, 11),
        "experts.0.bias": (3, 32),
        "experts.1.weight": (3, 16, 32),
        "experts.1.bias": (3, 16),
    }
    assert shapes_of(experts.task_parameters(0))["heads.purchase.0.weight"] == (8, 16)
