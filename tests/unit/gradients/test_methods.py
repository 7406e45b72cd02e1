"""What is differentiated under each method, and which heads go with it."""

import pytest
import torch

from recsys_mtl.config import GradOPS, Method, Uniform
from recsys_mtl.gradients import gradops_coefficients, gram_matrix
from recsys_mtl.gradients.methods import method_coefficients, objective_tasks, objectives

UNIFORM = Uniform(kind="uniform")
GRADOPS = GradOPS(kind="gradops", alpha=0.7)


def test_uniform_is_one_objective_whose_gradient_is_the_sum_of_all_tasks() -> None:
    print("seed", torch.seed())
    parameters = torch.randn(5, requires_grad=True)
    losses = torch.randn(3, 5) @ parameters.square()
    found = objectives(UNIFORM, losses)
    assert found.shape == (1,)
    (gradient,) = torch.autograd.grad(found[0], parameters, retain_graph=True)
    each = [torch.autograd.grad(loss, parameters, retain_graph=True)[0] for loss in losses]
    torch.testing.assert_close(gradient, torch.stack(each).sum(dim=0))


def test_gradops_has_every_task_for_an_objective() -> None:
    losses = torch.tensor([0.1, 0.2, 0.3])
    assert torch.equal(objectives(GRADOPS, losses), losses)


@pytest.mark.parametrize(("method", "tasks"), [(UNIFORM, [[0, 1, 2]]), (GRADOPS, [[0], [1], [2]])])
def test_the_heads_of_all_tasks_get_a_gradient_once(method: Method, tasks: list[list[int]]) -> None:
    assert [list(found) for found in objective_tasks(method, 3)] == tasks


def test_uniform_multiplies_the_sum_by_one() -> None:
    method = method_coefficients(UNIFORM, torch.tensor([[25.0]], dtype=torch.float64))
    assert (method.coefficients.tolist(), method.weights.tolist()) == ([1.0], [1.0])
    assert method.finite
    assert not method.conflicts.any()


def test_a_uniform_sum_that_is_not_finite_is_said_to_be_so() -> None:
    gram = torch.tensor([[torch.nan]], dtype=torch.float64)
    assert not method_coefficients(UNIFORM, gram).finite


def test_gradops_takes_its_alpha_from_the_configuration() -> None:
    gram = gram_matrix(torch.tensor([[4.0, 0.0, 1.0], [-1.0, 1.0, 0.0], [0.0, 2.0, 5.0]]))
    found = method_coefficients(GRADOPS, gram).weights
    assert torch.equal(found, gradops_coefficients(gram, alpha=0.7).weights)
    assert not torch.equal(found, gradops_coefficients(gram, alpha=0.0).weights)
