"""GradNorm: weights, learnt beside the model, that bring the tasks' gradient norms together.

Source: Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask
Networks", ICML 2018, Algorithm 1. Defaults as there: asymmetry alpha 1.5 and, for the weights'
Adam, learning rate 0.025; its decays are Adam's usual 0.9 and 0.999. The gradients compared are
those of the last shared layer. Coefficients and weights are the same numbers and sum to T. No
conflict between gradients is removed: an update may go against a task.

What differs from the paper:

- A task without labels in the batch tells nothing. Its weight, initial loss and Adam do not move,
  it takes no part in the means, and only the other weights are brought back to their former sum.
- A task's initial loss is that of the first step that has labels of the task.
- A weight that Adam would bring below 0.001 is held there: a negative one would raise its loss.
- Adam has no epsilon, so multiplying all losses by a number changes no weight; where a weight never
  had a gradient, 0 / 0 counts as no move.
"""

# T tasks, L layers of the shared parameters

import torch
from torch import Tensor

from recsys_mtl.gradients.methods.contract import (
    Diagnostic,
    Evidence,
    MethodState,
    Need,
    TaskWeighting,
)

NEEDS: frozenset[Need] = frozenset({"losses", "layer_grams"})
DIAGNOSTICS = (
    Diagnostic(
        "training_rate",
        "The task's loss over its initial one, over the tasks' mean of this ratio: above 1 for a "
        "task that has learnt less than the others.",
    ),
    Diagnostic("target_norm", "The norm that the task's weighted gradient is to have."),
)

_BETA1, _BETA2 = 0.9, 0.999
_SMALLEST_WEIGHT = 1e-3


def initial_state(num_tasks: int) -> MethodState:
    """Every weight 1, nothing seen. All [T] float64, so that each task has an Adam of its own.

    `initial_losses` is 0 until the task has had a loss above 0; a task has no part until then.
    """
    names = ("initial_losses", "first_moments", "second_moments", "moves")
    zeros = {name: torch.zeros(num_tasks, dtype=torch.float64) for name in names}
    return {"weights": torch.ones(num_tasks, dtype=torch.float64)} | zeros


def weigh_tasks(
    evidence: Evidence, state: MethodState, *, alpha: float = 1.5, learning_rate: float = 0.025
) -> tuple[TaskWeighting, MethodState]:
    """This step's weights, from the state, and the state with those of the next step.

    Weights [1, 1], gradient norms [1, 3] at the last shared layer, losses [2, 2] that began at
    [2, 4]: the ratios are [1, 0.5], the rates [4 / 3, 2 / 3] and, with alpha 1, the target norms
    2 * [4 / 3, 2 / 3]. Task 1 is below its target and task 2 above, so the derivatives of
    sum_i |w_i n_i - target_i| are [-1, 3]. Adam's first move is the learning rate's length: with
    0.025 the weights become [1.025, 0.975]. Their sum is still 2.

    Args:
        alpha: 0 aims at equal norms; the larger, the more a task that has learnt less gets.
        learning_rate: of the weights' Adam.
    """
    losses, layer_grams = evidence.losses, evidence.layer_grams
    assert losses is not None
    assert layer_grams is not None
    weights, initial_losses = state["weights"], state["initial_losses"]
    # The loss of a task without labels is 0, as is an initial loss that is not known.
    initial_losses = torch.where(initial_losses > 0, initial_losses, losses)
    measured = evidence.labelled & (initial_losses > 0)

    norms = layer_grams[-1].diagonal().sqrt()
    ratios = losses / initial_losses  # 0 / 0 for a task that is not measured
    mean_ratio = _mean(ratios, measured)
    rates = ratios / torch.where(mean_ratio > 0, mean_ratio, 1.0)
    # Clamped, since an infinite power times a mean norm of 0 is NaN.
    powers = rates.pow(alpha).clamp(max=torch.finfo(torch.float64).max)
    targets = _mean(weights * norms, measured) * powers
    derivatives = (weights * norms - targets).sign() * norms

    moved, adam = _adam_move(state, derivatives, learning_rate)
    moved = moved.clamp(min=_SMALLEST_WEIGHT)
    # Those measured keep their sum, so that all together keep T.
    old_sum, new_sum = (torch.where(measured, w, 0.0).sum() for w in (weights, moved))
    proposed = adam | {"weights": moved * old_sum / new_sum}
    kept = {name: torch.where(measured, new, state[name]) for name, new in proposed.items()}
    diagnostics = {
        name: torch.where(measured, values, torch.nan)
        for name, values in (("training_rate", rates), ("target_norm", targets))
    }
    weighting = TaskWeighting(coefficients=weights, weights=weights, diagnostics=diagnostics)
    return weighting, kept | {"initial_losses": initial_losses}


def _adam_move(
    state: MethodState, derivatives: Tensor, learning_rate: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weights after one move of Adam, [T], and its next moments and counts, by name."""
    moves = state["moves"] + 1
    first = _BETA1 * state["first_moments"] + (1 - _BETA1) * derivatives
    second = _BETA2 * state["second_moments"] + (1 - _BETA2) * derivatives.square()
    root = (second / (1 - _BETA2**moves)).sqrt()
    direction = first / (1 - _BETA1**moves) / torch.where(root > 0, root, 1.0)
    moved = state["weights"] - learning_rate * direction
    return moved, {"first_moments": first, "second_moments": second, "moves": moves}


def _mean(values: Tensor, members: Tensor) -> Tensor:
    """[] Mean of values [T] over the members [T] bool; 0 where there is none."""
    return torch.where(members, values, 0.0).sum() / members.sum().clamp(min=1)
