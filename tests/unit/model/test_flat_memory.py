"""Flat memory and the module's own parameters are one and the same."""

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.model.flat_memory import COLUMN_MULTIPLE, FlatMemory

LAYERS = {"first": ("0.weight", "0.bias"), "second": ("2.weight", "2.bias")}
CPU = torch.device("cpu")


def fresh_network() -> nn.Sequential:
    """10 x 7 + 7 parameters in the first layer, 7 x 3 + 3 in the second: 77 and 24."""
    print("seed", torch.seed())
    return nn.Sequential(nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 3))


def memory_of(network: nn.Module, layers: dict[str, tuple[str, ...]] | None = None) -> FlatMemory:
    return FlatMemory(dict(network.named_parameters()), layers or LAYERS, CPU)


def parameters_of(*sizes: int) -> tuple[dict[str, nn.Parameter], dict[str, tuple[str, ...]]]:
    """One layer for each size, of a single parameter of so many ones."""
    names = [f"p{place}" for place in range(len(sizes))]
    parameters = {n: nn.Parameter(torch.ones(s)) for n, s in zip(names, sizes, strict=True)}
    return parameters, {f"layer of {name}": (name,) for name in names}


def padding_of(memory: FlatMemory) -> Tensor:
    """[P] bool: the places that no parameter has."""
    is_padding = torch.ones_like(memory.vector)
    for view in memory.views(is_padding).values():
        view.zero_()
    return is_padding.bool()


def test_flattening_keeps_every_value_and_what_the_module_computes() -> None:
    network, inputs = fresh_network(), torch.randn(4, 10)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    output = network(inputs)
    memory = memory_of(network)
    assert torch.equal(network(inputs), output)
    views = memory.views(memory.vector)
    assert views.keys() == before.keys()
    assert all(torch.equal(views[name], value) for name, value in before.items())


def test_the_vector_s_change_is_the_module_s() -> None:
    network = fresh_network()
    memory = memory_of(network)
    memory.vector.copy_(torch.arange(192.0))
    state = network.state_dict()
    assert state["0.weight"].flatten().tolist() == list(range(70))
    assert state["0.bias"].tolist() == list(range(70, 77))
    assert state["2.weight"].flatten().tolist() == list(range(128, 149))
    assert state["2.bias"].tolist() == list(range(149, 152))


def test_layers_lie_in_their_order_whatever_the_order_of_the_parameters() -> None:
    network = fresh_network()
    memory = memory_of(network, {"second": LAYERS["second"], "first": LAYERS["first"]})
    assert memory.layer_columns == {"second": slice(0, 64), "first": slice(64, 192)}
    assert memory.vector[:21].tolist() == network[2].weight.flatten().tolist()


@pytest.mark.parametrize(
    ("sizes", "columns"),
    [
        ((1,), [(0, 64)]),
        ((63,), [(0, 64)]),
        ((64,), [(0, 64)]),
        ((65,), [(0, 128)]),
        ((128, 1), [(0, 128), (128, 192)]),
        ((1, 65, 64), [(0, 64), (64, 192), (192, 256)]),
    ],
)
def test_every_layer_is_padded_with_zeros_to_a_multiple_of_64_columns(
    sizes: tuple[int, ...], columns: list[tuple[int, int]]
) -> None:
    memory = FlatMemory(*parameters_of(*sizes), CPU)
    assert COLUMN_MULTIPLE == 64
    assert list(memory.layer_columns.values()) == [slice(*place) for place in columns]
    assert memory.size == sum(sizes)
    expected = torch.zeros(columns[-1][1])
    for (start, _), size in zip(columns, sizes, strict=True):
        expected[start : start + size] = 1.0
    assert torch.equal(memory.vector, expected)
    assert memory.rows(3).shape == (3, columns[-1][1])


def test_rows_start_at_zero_in_the_parameters_dtype() -> None:
    memory = memory_of(fresh_network().double())
    assert memory.vector.dtype == torch.float64
    rows = memory.rows(2)
    assert rows.dtype == torch.float64
    assert not rows.any()


def test_a_row_of_gradients_moves_each_parameter_by_its_own_and_no_padding() -> None:
    network = fresh_network()
    memory = memory_of(network)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    loss = network(torch.randn(4, 10)).square().sum()
    gradients = dict(
        zip(before, torch.autograd.grad(loss, list(network.parameters())), strict=True)
    )
    rows = memory.rows(2)
    for name, place in memory.views(rows[1]).items():
        place.copy_(gradients[name])
    memory.vector.sub_(rows[1])
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name] - gradients[name])
    assert not rows[0].any()
    padding = padding_of(memory)
    assert padding.sum() == 192 - 101
    assert not rows[1, padding].any()
    assert not memory.vector[padding].any()


def test_without_any_parameter_there_is_a_row_of_zeros() -> None:
    memory = FlatMemory({}, {}, CPU)
    assert memory.size == 0
    assert memory.views(memory.vector) == {}
    assert memory.vector.tolist() == [0.0] * 64
    assert memory.rows(3).shape == (3, 64)


def test_a_parameter_that_is_in_no_layer_is_refused() -> None:
    parameters, layers = parameters_of(2, 3)
    del layers["layer of p1"]
    with pytest.raises(AssertionError, match="each parameter is in one layer"):
        FlatMemory(parameters, layers, CPU)
