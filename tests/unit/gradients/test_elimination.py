import pytest
import torch

from recsys_mtl.gradients.elimination import eliminate
from tests.unit.gradients.methods.grams import fresh_generator


def test_a_hand_checked_pair() -> None:
    correlation = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    waiting = torch.tensor([[True, False]])
    tableau, left = eliminate(correlation, waiting, rounds=1, zero_sine_squared=1e-8)
    assert tableau[0].tolist() == [[1.0, 0.6], [0.0, pytest.approx(0.64)]]
    assert left.tolist() == [[False, False]]


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
def test_as_many_gradients_become_pivots_as_there_are_dimensions(rank: int) -> None:
    generator = fresh_generator()
    vectors = torch.randn(5, rank, generator=generator, dtype=torch.float64)
    unit = torch.nn.functional.normalize(vectors, dim=1)
    everything = torch.ones(1, 5, dtype=torch.bool)
    tableau, left = eliminate(unit @ unit.T, everything, rounds=5, zero_sine_squared=1e-8)
    pivots = ~left[0]
    assert int(pivots.sum()) == min(rank, 5)
    # Column j of the pivots' rows has the coefficients of gradient j on them.
    torch.testing.assert_close(tableau[0][pivots].T @ unit[pivots], unit)
