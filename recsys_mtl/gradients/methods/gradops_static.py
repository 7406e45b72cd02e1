"""GradOPS's projected gradients under fixed weights, one per task.

Source: Zhu et al., "Gradient Deconfliction via Orthogonal Projections onto Subspaces For
Multi-task Learning", WSDM 2025, Figure 4: static weights that sum to T in the place of Eq. 5's.
There is no default; weights of 1 are GradOPS with alpha 0.

No update goes against a task's gradient, whatever the weights: no projected gradient does, and no
weight is negative. The coefficients sum to nothing in particular. A label's `loss_weight` is the
other kind of static weight: it multiplies the raw loss, and removes no conflict.

Two things the paper does not say. A task whose projected gradient is zero has weight 0 in that
step, and the weights of the others stay as they are. Where no projected gradient is left, the
min-norm combination takes their place, as in GradOPS, and the weights play no part.
"""

# T tasks

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recsys_mtl.gradients.gram import check_gram
from recsys_mtl.gradients.methods.contract import Evidence, MethodState, Need, TaskWeighting
from recsys_mtl.gradients.methods.gradops import (
    DIAGNOSTICS,
    GradOPSCoefficients,
    deconflicted_coefficients,
    weighting_of,
)

__all__ = ["DIAGNOSTICS", "NEEDS", "gradops_static_coefficients", "weigh_tasks"]

NEEDS: frozenset[Need] = frozenset({"gram"})
SUM_TOLERANCE = 1e-6
"""How far the sum of the weights may be off T, relative to T."""


def gradops_static_coefficients(
    gram: Tensor, *, weights: Sequence[float], zero_sine_squared: float = 1e-8
) -> GradOPSCoefficients:
    """GradOPS with fixed weights on the Gram matrix alone, without waiting for the device.

    Gram [[1, -1], [-1, 2]] with the weights [1.5, 0.5]: g'_1 = g_1 + g_2 / 2 and g'_2 = g_2 + g_1,
    so the coefficients are [2, 1.25].

    Args:
        gram: [T, T] float64.
        weights: one per task, none negative, with the sum T.
        zero_sine_squared: as `zero_sine_squared_for` gives it for the gradients' dtype.

    Raises:
        TypeError: the Gram is not float64.
        ValueError: it is not square, has no task, or the weights do not fit.
    """
    check_gram(gram)
    _check_weights(weights, len(gram))
    # Without non_blocking the host would wait until the device has done all that came before.
    fixed = torch.tensor(weights, dtype=torch.float64).to(gram.device, non_blocking=True)
    return deconflicted_coefficients(
        gram,
        lambda _, kept: torch.where(kept, fixed, 0.0),
        zero_sine_squared=zero_sine_squared,
    )


def _check_weights(weights: Sequence[float], num_tasks: int) -> None:
    if len(weights) != num_tasks:
        raise ValueError(
            f"weights has {len(weights)} entries; pass one for each of the {num_tasks} tasks."
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ValueError(f"weights are {list(weights)}; each must be finite and at least 0.")
    if abs(sum(weights) - num_tasks) > SUM_TOLERANCE * num_tasks:
        raise ValueError(
            f"weights sum to {sum(weights):.7g}; for {num_tasks} tasks their sum must be "
            f"{num_tasks}."
        )


def weigh_tasks(
    evidence: Evidence, state: MethodState, *, weights: Sequence[float]
) -> tuple[TaskWeighting, MethodState]:
    """GradOPS with fixed weights as a step asks for it; it remembers nothing."""
    assert evidence.gram is not None
    return weighting_of(gradops_static_coefficients(evidence.gram, weights=weights)), state
