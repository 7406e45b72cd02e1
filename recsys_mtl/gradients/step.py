"""GradOPS in one call, for anyone's training loop."""

# T tasks, P shared parameters

from dataclasses import dataclass

from torch import Tensor

from recsys_mtl.gradients.backend import BackendChoice, resolve_backend
from recsys_mtl.gradients.gram import check_task_gradients
from recsys_mtl.gradients.methods.gradops import zero_sine_squared_for
from recsys_mtl.gradients.operations import operations_of


@dataclass(frozen=True, eq=False)
class GradOPSStep:
    """The combined update and how it came about; the other fields are those of
    `GradOPSCoefficients`."""

    update: Tensor
    """[P]: sum_i c_i g_i, in the gradients' dtype, but float32 for float16 and bfloat16."""
    weights: Tensor
    coefficients: Tensor
    conflicts: Tensor
    used_min_norm: Tensor


def gradops(
    task_gradients: Tensor, *, alpha: float, backend: BackendChoice = "auto"
) -> GradOPSStep:
    """Combine task gradients into one update that has no negative product with any of them.

    Gradients [[1, 0], [-1, 1]] conflict: they become [0.5, 0.5] and [0, 1], and with alpha 0
    both have weight 1, so the update is [0.5, 1.5] = 2 g_1 + 1.5 g_2.

    Checking that the input is finite waits for the device; a training loop that must not wait
    calls `gram_matrix`, `gradops_coefficients` and `combine_gradients` itself.

    Args:
        task_gradients: [T, P], any floating dtype. A zero row is a task left out.
        alpha: above 0 favours tasks that gain most, below 0 those that gain least.
        backend: "torch" or "triton"; "auto" is "triton" for up to 16 tasks on a CUDA device, and
            "torch" otherwise.

    Raises:
        TypeError: not a floating dtype.
        ValueError: not two-dimensional, no task, not finite, alpha not finite, or a backend that
            is unknown or cannot run here.
    """
    check_task_gradients(task_gradients)
    task_gradients = task_gradients.detach()
    operations = operations_of(
        resolve_backend(backend, task_gradients.device, num_tasks=len(task_gradients))
    )
    gram = operations.gram_matrix(task_gradients)
    step = operations.gradops_coefficients(
        gram, alpha=alpha, zero_sine_squared=zero_sine_squared_for(task_gradients.dtype)
    )
    if not bool(step.finite):
        raise ValueError(
            "task_gradients has an infinite or NaN entry, or one whose square overflows float64; "
            "leave this step out or lower the loss scale."
        )
    return GradOPSStep(
        update=operations.combine_gradients(task_gradients, step.coefficients),
        weights=step.weights,
        coefficients=step.coefficients,
        conflicts=step.conflicts,
        used_min_norm=step.used_min_norm,
    )
