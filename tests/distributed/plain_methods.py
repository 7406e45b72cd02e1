"""Every method on the gradient vectors themselves, in float64: slow, plain, without a Gram."""

# T tasks, P numbers of all compared parameters, Q of the last shared layer

from typing import Protocol

import torch
from torch import Tensor

from recsys_mtl.config import GradNorm, GradOPS, PCGrad, RunConfig, Uniform
from recsys_mtl.gradients.methods.pcgrad import draw_order
from recsys_mtl.gradients.reference import gradops_reference


class PlainMethod(Protocol):
    """Gives coefficients and weights, [T] each, from what one step knows of the tasks."""

    def __call__(
        self, step: int, vectors: Tensor, last_layer: Tensor, losses: Tensor, labelled: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Weigh the tasks.

        Args:
            vectors: [T, P]
            last_layer: [T, Q] gradients of the last shared layer.
            losses: [T]
            labelled: [T] bool
        """


def plain_method(config: RunConfig) -> PlainMethod:
    """The configured method; it keeps its state between calls."""
    tasks, method = len(config.task_names), config.method
    match method:
        case Uniform():
            return lambda *_: (torch.ones(tasks).double(), torch.ones(tasks).double())
        case GradOPS():
            return lambda _, vectors, *__: _gradops(vectors, method.alpha)
        case PCGrad():
            return lambda step, vectors, *_: _pcgrad(vectors, config.run.seed, step)
        case GradNorm():
            return _gradnorm(tasks, method.alpha, method.learning_rate)


def _gradops(vectors: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    update, weights, _ = gradops_reference(vectors, alpha=alpha, zero_sine_squared=1e-8)
    # The driver that minds a zero gradient: a task without labels.
    solved = torch.linalg.lstsq(vectors.T, update[:, None], driver="gelsd")
    return solved.solution[:, 0], weights


def _pcgrad(vectors: Tensor, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Algorithm 1 of Yu et al. 2020, one projection after the other."""
    tasks = len(vectors)
    total = torch.zeros(tasks).double()
    for task, others in enumerate(draw_order(tasks, seed, step).tolist()):
        if not vectors[task].any():
            continue
        projected, combination = vectors[task].clone(), torch.eye(tasks).double()[task]
        for other in others:
            product = projected @ vectors[other]
            if product < 0:
                share = product / vectors[other].square().sum()
                projected = projected - share * vectors[other]
                combination[other] -= share
        total += combination
    return total, total


def _gradnorm(tasks: int, alpha: float, rate: float) -> PlainMethod:
    """Algorithm 1 of Chen et al. 2018 by autograd, for steps in which every task has labels."""
    weights = torch.ones(tasks).double().requires_grad_()
    adam = torch.optim.Adam([weights], lr=rate, eps=1e-300)  # 0 / 0 is no move
    initial: list[Tensor] = []

    def weigh(
        step: int, vectors: Tensor, last_layer: Tensor, losses: Tensor, labelled: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert labelled.all()
        now = weights.detach().clone()
        initial.append(losses)
        norms = last_layer.norm(dim=1)
        ratios = losses / initial[0]
        targets = (now * norms).mean() * (ratios / ratios.mean()) ** alpha
        weights.grad = torch.autograd.grad((weights * norms - targets).abs().sum(), weights)[0]
        adam.step()
        with torch.no_grad():
            weights.mul_(tasks / weights.sum())
        return now, now

    return weigh
