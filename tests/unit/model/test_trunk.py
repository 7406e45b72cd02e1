"""A trunk takes any gradient of the representation down, as often as it is asked."""

import pytest
import torch
from torch import Tensor

from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.model.bodies.contract import BodyInputs, MultiTaskBody
from recsys_mtl.model.trunk import AutogradTrunk, PartGradients, Trunk
from tests.unit.model.small_bodies import (
    TiedBody,
    fresh_body,
    fresh_masks,
    mmoe,
    shape_of,
    shared_bottom,
)

# B batch rows, E columns of pooled embeddings, F dense inputs, T tasks
BATCH = 30
BODIES = {
    "1 layer": shared_bottom(7),
    "2 layers": shared_bottom(9, 6),
    "4 layers": shared_bottom(9, 8, 7, 6),
    "last of 3 own": shared_bottom(9, 8, 7, own=(2,)),
    "experts": mmoe(4, 7, 6),
    "tied": TiedBody,
}
every_body = pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)


def fresh_trunk(make: BodyFactory, pooled_columns: int = 8) -> tuple[MultiTaskBody, Trunk]:
    shape = shape_of(pooled_columns)
    body = fresh_body(make, shape)
    return body, body.trunk(fresh_inputs(pooled_columns), fresh_masks(body, BATCH))


def fresh_inputs(pooled_columns: int = 8) -> BodyInputs:
    pooled = torch.randn(BATCH, pooled_columns)
    return BodyInputs(pooled.requires_grad_(pooled_columns > 0), torch.randn(BATCH, 3))


def fresh_gradients(trunk: Trunk) -> tuple[Tensor, ...]:
    return tuple(torch.randn_like(part) for part in trunk.representation)


def trunk_parameters(body: MultiTaskBody, trunk: Trunk) -> list[str]:
    """Names of the shared parameters that the representation depends on."""
    shared, below = body.shared_parameters(), set[str]()
    for part in trunk.representation:
        if part.requires_grad:
            found = torch.autograd.grad(
                part.sum(), list(shared.values()), retain_graph=True, allow_unused=True
            )
            below |= {n for n, g in zip(shared, found, strict=True) if g is not None}
    if not isinstance(trunk, AutogradTrunk):  # its graph ends above the first layer
        below |= {"bottom.layers.0.weight", "bottom.layers.0.bias"}
    return [name for name in shared if name in below]


def down(
    body: MultiTaskBody, trunk: Trunk, gradients: PartGradients
) -> tuple[dict[str, Tensor], Tensor]:
    """Gradients of the parameters in the trunk, by name, and of the pooled embeddings."""
    shared = body.shared_parameters()
    places = {n: torch.full_like(shared[n], torch.nan) for n in trunk_parameters(body, trunk)}
    stem = trunk.backward(gradients, places)
    return places, trunk.pooled_gradient(stem)


@pytest.mark.parametrize("dropout", [False, True], ids=["all units", "dropout"])
@pytest.mark.parametrize("pooled_columns", [8, 0])
@every_body
def test_a_body_s_own_trunk_gives_the_gradients_of_autograd_s(
    make: BodyFactory, pooled_columns: int, dropout: bool
) -> None:
    body, inputs = fresh_body(make, shape_of(pooled_columns)), fresh_inputs(pooled_columns)
    masks = fresh_masks(body, BATCH) if dropout else {}
    own = body.trunk(inputs, masks)
    plain = AutogradTrunk(
        body.representation(inputs, masks), inputs.pooled, body.shared_parameters()
    )
    torch.testing.assert_close(own.representation, plain.representation)
    for _ in range(2):
        gradients = fresh_gradients(own)
        torch.testing.assert_close(down(body, own, gradients), down(body, plain, gradients))


@every_body
def test_the_gradients_of_a_combination_are_the_combined_gradients(make: BodyFactory) -> None:
    body, trunk = fresh_trunk(make)
    weights = (1.01, -9.1, 2.0)
    tasks = [fresh_gradients(trunk) for _ in weights]

    def combined(gradients: list[Tensor]) -> Tensor:
        weighed = [w * g for w, g in zip(weights, gradients, strict=True)]
        return torch.stack(weighed).sum(dim=0)

    parts = tuple(combined(list(gradients)) for gradients in zip(*tasks, strict=True))
    found, at_pooled = down(body, trunk, parts)
    each = [down(body, trunk, gradients) for gradients in tasks]
    for name, gradient in found.items():
        expected = combined([parameters[name] for parameters, _ in each])
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)
    expected = combined([pooled for _, pooled in each])
    torch.testing.assert_close(at_pooled, expected, rtol=1e-4, atol=1e-4)


@every_body
def test_stems_may_be_combined_before_they_are_mapped_to_the_embeddings(make: BodyFactory) -> None:
    _, trunk = fresh_trunk(make)
    stems = [trunk.backward(fresh_gradients(trunk), None) for _ in range(2)]
    mapped = [trunk.pooled_gradient(stem) for stem in stems]
    together = trunk.pooled_gradient(3.0 * stems[0] - stems[1])
    torch.testing.assert_close(together, 3.0 * mapped[0] - mapped[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooled_columns", [8, 0])
@every_body
def test_without_room_for_parameters_only_the_stem_is_computed(
    make: BodyFactory, pooled_columns: int
) -> None:
    body, trunk = fresh_trunk(make, pooled_columns)
    gradients = fresh_gradients(trunk)
    _, pooled = down(body, trunk, gradients)
    assert torch.equal(trunk.pooled_gradient(trunk.backward(gradients, None)), pooled)


@pytest.mark.parametrize("read", [(True, False, True), (False, True, True), (False, False, True)])
def test_a_part_that_no_loss_reads_adds_nothing(read: tuple[bool, bool, bool]) -> None:
    body, trunk = fresh_trunk(TiedBody)
    gradients = fresh_gradients(trunk)
    without = tuple(g if known else None for g, known in zip(gradients, read, strict=True))
    zeros = tuple(g * known for g, known in zip(gradients, read, strict=True))
    torch.testing.assert_close(down(body, trunk, without), down(body, trunk, zeros))


def test_a_parameter_that_a_gradient_does_not_reach_is_overwritten_with_zeros() -> None:
    body, trunk = fresh_trunk(TiedBody)
    hidden, *_ = fresh_gradients(trunk)
    places, _ = down(body, trunk, (hidden, None, None))
    assert not places["tied.weight"].any()
    assert places["first.weight"].any()


def test_a_part_that_is_the_embeddings_themselves_hands_its_gradient_on() -> None:
    _, trunk = fresh_trunk(shared_bottom(7, own=(0,)))
    at_pooled, at_dense = fresh_gradients(trunk)
    for gradients in ((at_pooled, at_dense), (at_pooled, None)):
        assert torch.equal(trunk.pooled_gradient(trunk.backward(gradients, {})), at_pooled)
    assert not trunk.backward((None, None), {}).any()


def test_an_empty_trunk_without_embeddings_has_nothing_to_compute() -> None:
    _, trunk = fresh_trunk(shared_bottom(7, own=(0,)), pooled_columns=0)
    stem = trunk.backward((None, None), {})
    assert trunk.pooled_gradient(stem).shape == (BATCH, 0)
