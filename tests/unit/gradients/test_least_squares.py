import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from recsys_mtl.gradients.least_squares import nonnegative_least_squares
from tests.unit.gradients.methods.grams import fresh_generator


def test_solutions_of_a_hand_checked_matrix() -> None:
    matrix = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    targets = torch.tensor([[3.0, 4.0], [-1.0, 4.0], [-1.0, -2.0]], dtype=torch.float64)
    found = nonnegative_least_squares(matrix, targets)
    assert found.tolist() == [[3.0, 2.0], [0.0, 2.0], [0.0, 0.0]]


@pytest.mark.parametrize("num_tasks", [1, 2, 4, 8])
def test_every_problem_of_a_batch_is_solved_as_scipy_solves_it(num_tasks: int) -> None:
    generator = fresh_generator()
    for _ in range(20):
        rows = torch.randn(num_tasks, 12, generator=generator, dtype=torch.float64)
        goals = torch.randn(5, 12, generator=generator, dtype=torch.float64)
        found = nonnegative_least_squares(rows @ rows.T, goals @ rows.T)
        expected = np.stack([nnls(rows.T.numpy(), goal.numpy())[0] for goal in goals])
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-8, atol=1e-10)


def test_a_dependent_task_is_not_taken_in() -> None:
    unit = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    target = unit @ torch.tensor([2.0, 1.0], dtype=torch.float64)
    found = nonnegative_least_squares(unit @ unit.T, target[None])
    assert (found @ unit).tolist() == [[2.0, 1.0]]
    assert found.count_nonzero() == 2


@pytest.mark.parametrize(("limit", "taken_in"), [(1e-8, 2), (1e-4, 1)])
def test_the_caller_says_what_counts_as_dependent(limit: float, taken_in: int) -> None:
    sine = 1e-3
    unit = torch.tensor([[1.0, 0.0], [(1 - sine**2) ** 0.5, sine]], dtype=torch.float64)
    target = unit @ unit.sum(dim=0)  # of the vector that both make with the coefficients [1, 1]
    found = nonnegative_least_squares(unit @ unit.T, target[None], zero_sine_squared=limit)
    assert found.count_nonzero() == taken_in
    torch.testing.assert_close(found @ unit, unit.sum(dim=0)[None], rtol=0, atol=2 * sine)
