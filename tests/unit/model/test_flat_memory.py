"""Flat memory and the module's own parameters are one and the same."""

import pytest
import torch
from torch import nn

from recsys_mtl.model.flat_memory import FlatParameters


def fresh_network() -> nn.Sequential:
    """10 x 7 + 7 + 7 x 3 + 3 = 101 parameters."""
    print("seed", torch.seed())
    return nn.Sequential(nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 3))


def test_flattening_keeps_every_value_and_what_the_module_computes() -> None:
    network, inputs = fresh_network(), torch.randn(4, 10)
    before, output = [p.detach().clone() for p in network.parameters()], network(inputs)
    flat = FlatParameters(network.parameters())
    assert torch.equal(flat.vector[:101], torch.cat([p.flatten() for p in before]))
    assert torch.equal(network(inputs), output)


def test_the_vector_s_change_is_the_module_s() -> None:
    network = fresh_network()
    flat = FlatParameters(network.parameters())
    flat.vector.copy_(torch.arange(128.0))
    state = network.state_dict()
    assert state["0.weight"].flatten().tolist() == list(range(70))
    assert state["0.bias"].tolist() == list(range(70, 77))
    assert state["2.bias"].tolist() == list(range(98, 101))


@pytest.mark.parametrize(
    ("numbers", "columns"), [(1, 64), (63, 64), (64, 64), (65, 128), (128, 128)]
)
def test_columns_are_padded_with_zeros_to_a_multiple_of_64(numbers: int, columns: int) -> None:
    flat = FlatParameters([nn.Parameter(torch.ones(numbers))])
    assert flat.size == numbers
    assert flat.vector.tolist() == [1.0] * numbers + [0.0] * (columns - numbers)
    assert flat.task_gradients(3).shape == (3, columns)


def test_task_gradients_start_at_zero_in_the_parameters_dtype() -> None:
    gradients = FlatParameters(fresh_network().double().parameters()).task_gradients(2)
    assert gradients.dtype == torch.float64
    assert not gradients.any()


def test_a_row_of_gradients_moves_each_parameter_by_its_own() -> None:
    network = fresh_network()
    flat = FlatParameters(network.parameters())
    before = [p.detach().clone() for p in network.parameters()]
    loss = network(torch.randn(4, 10)).square().sum()
    gradients = torch.autograd.grad(loss, flat.parameters)
    rows = flat.task_gradients(2)
    flat.write_gradient(gradients, rows[1])
    flat.vector.sub_(rows[1])
    for parameter, old, gradient in zip(network.parameters(), before, gradients, strict=True):
        assert torch.equal(parameter, old - gradient)
    assert not rows[0].any()
    assert not rows[1, 101:].any()
