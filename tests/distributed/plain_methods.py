"""Every method on the gradient vectors themselves, in float64: slow, plain, without a Gram."""

# T tasks, P numbers of all compared parameters, Q of the last shared layer

from collections.abc import Callable
from typing import Protocol, assert_never

import torch
from torch import Tensor

from pipelines.benchmarks.cones import cagrad, imtl_g, mgda, upgrad
from recsys_mtl.config import (
    DW,
    IMTLG,
    MGDA,
    CAGrad,
    GradNorm,
    GradOPS,
    GradOPSStatic,
    GradVac,
    PCGrad,
    PCGradDW,
    RunConfig,
    Uniform,
    UPGrad,
)
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
    tasks, seed, method = len(config.task_names), config.run.seed, config.method
    match method:
        case Uniform():
            return lambda *_: (torch.ones(tasks).double(), torch.ones(tasks).double())
        case GradOPS():
            return lambda _, vectors, *__: _gradops(vectors, method.alpha)
        case GradOPSStatic():
            fixed = torch.tensor([method.weights[task] for task in config.task_names]).double()
            return lambda _, vectors, *__: _gradops_static(vectors, fixed)
        case DW():
            return lambda _, vectors, *__: _dw(vectors, method.alpha)
        case PCGrad():
            return lambda step, vectors, *_: _pcgrad_dw(vectors, 0.0, seed, step)
        case PCGradDW():
            return lambda step, vectors, *_: _pcgrad_dw(vectors, method.alpha, seed, step)
        case GradVac():
            return _gradvac(tasks, method.beta, seed)
        case MGDA():
            return _from_vectors(mgda)
        case CAGrad():
            return _from_vectors(lambda vectors: cagrad(vectors, method.c))
        case IMTLG():
            return _from_vectors(imtl_g)
        case UPGrad():
            return _from_vectors(upgrad)
        case GradNorm():
            return _gradnorm(tasks, method.alpha, method.learning_rate)
        case _:
            assert_never(method)


def _from_vectors(combine: Callable[[Tensor], Tensor]) -> PlainMethod:
    """A method of the vectors alone, which is asked about the tasks that have a gradient."""

    def weigh(step: int, vectors: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        present = vectors.any(dim=1)
        coefficients = torch.zeros(len(vectors)).double()
        coefficients[present] = combine(vectors[present])
        positive = coefficients.clamp(min=0.0)
        negative = bool((coefficients < 0).any())
        return coefficients, positive / positive.sum() if negative else coefficients

    return weigh


def _gradops(vectors: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    update, weights, _ = gradops_reference(vectors, alpha=alpha, zero_sine_squared=1e-8)
    return _made_of(vectors, update), weights


def _gradops_static(vectors: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
    update, weights, projected = gradops_reference(vectors, alpha=0.0, zero_sine_squared=1e-8)
    if projected.any():
        weights = torch.where(projected.any(dim=1), fixed, 0.0)
        update = weights @ projected
    return _made_of(vectors, update), weights


def _made_of(vectors: Tensor, update: Tensor) -> Tensor:
    """[T] The coefficients with which the gradients make the update."""
    # The driver that minds a zero gradient: a task without labels.
    return torch.linalg.lstsq(vectors.T, update[:, None], driver="gelsd").solution[:, 0]


def _dw(vectors: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Eq. 3 to 5 of Zhu et al. 2025 with exp(R_i), on the raw gradients."""
    weights = _exponential_weights(vectors, vectors.sum(dim=0), alpha)
    return weights, weights


def _exponential_weights(vectors: Tensor, update: Tensor, alpha: float) -> Tensor:
    """[T] exp(R_i)^alpha over its mean, for the tasks with a gradient."""
    present = vectors.any(dim=1)
    powers = torch.zeros(len(vectors)).double()
    units = vectors[present] / vectors[present].norm(dim=1, keepdim=True)
    powers[present] = (units @ update).exp() ** alpha
    return powers / powers[present].mean()


def _pcgrad_dw(vectors: Tensor, alpha: float, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Algorithm 1 of Yu et al. 2020, one projection after the other; alpha 0 weighs all alike."""
    tasks = len(vectors)
    combinations = torch.diag(vectors.any(dim=1).double())
    for task, others in enumerate(draw_order(tasks, seed, step).tolist()):
        projected = vectors[task].clone()
        for other in others:
            product = projected @ vectors[other]
            if product < 0:
                share = product / vectors[other].square().sum()
                projected = projected - share * vectors[other]
                combinations[task, other] -= share
    update = (combinations @ vectors).sum(dim=0)
    coefficients = _exponential_weights(vectors, update, alpha) @ combinations
    return coefficients, coefficients


def _gradvac(tasks: int, beta: float, seed: int) -> PlainMethod:
    """Algorithm 1 of Wang et al. 2021, one turn after the other."""
    targets = torch.zeros(tasks, tasks).double()

    def weigh(step: int, vectors: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        combinations, norms = torch.diag(vectors.any(dim=1).double()), vectors.norm(dim=1)
        for task, others in enumerate(draw_order(tasks, seed, step).tolist()):
            for other in others:
                turned = combinations[task] @ vectors
                if not turned.any() or not norms[other] > 0:
                    continue
                target = targets[task, other].clone()
                cosine = turned @ vectors[other] / (turned.norm() * norms[other])
                if cosine < target:
                    sine, target_sine = (1 - cosine**2).sqrt(), (1 - target**2).sqrt()
                    missing = turned.norm() * (target * sine - cosine * target_sine)
                    combinations[task, other] += missing / (norms[other] * target_sine)
                targets[task, other] = (1 - beta) * target + beta * cosine
        return combinations.sum(dim=0), combinations.sum(dim=0)

    return weigh


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
