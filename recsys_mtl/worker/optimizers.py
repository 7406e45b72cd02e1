"""The dense optimizer on flat parameters.

T tasks, P shared parameters, H parameters of the tasks' own.
"""

from typing import assert_never

import torch
from torch import Tensor

from recsys_mtl.config import AdamConfig, AdamWConfig, DenseConfig, SgdConfig
from recsys_mtl.gradients.operations import Operations
from recsys_mtl.model.flat_memory import FlatMemory

_NAMES = {"step": "adam_steps", "exp_avg": "first_moment", "exp_avg_sq": "second_moment"}
"""What torch's Adam calls its state, and what our checkpoints call it."""


class DenseOptimizer:
    """The optimizer, fused, of the flat shared [P] and the flat own parameters [H]."""

    def __init__(
        self,
        optimizer: DenseConfig,
        shared: Tensor,
        task_specific: Tensor,
        operations: Operations,
    ) -> None:
        self._vectors = vectors = [shared, task_specific]
        self._settings, self._operations = optimizer, operations
        self._update = torch.empty_like(shared)  # a fresh one would be paged in at every step
        self._optimizer: torch.optim.Optimizer
        match optimizer:
            case AdamConfig():
                self._optimizer = torch.optim.Adam(
                    vectors,
                    lr=optimizer.learning_rate,
                    betas=(optimizer.beta1, optimizer.beta2),
                    eps=optimizer.epsilon,
                    fused=True,
                )
            case AdamWConfig():
                self._optimizer = torch.optim.AdamW(
                    vectors,
                    lr=optimizer.learning_rate,
                    betas=(optimizer.beta1, optimizer.beta2),
                    eps=optimizer.epsilon,
                    weight_decay=optimizer.weight_decay,
                    fused=True,
                )
            case SgdConfig():
                self._optimizer = torch.optim.SGD(vectors, lr=optimizer.learning_rate, fused=True)
            case _:
                assert_never(optimizer)
        self._make_state()

    def step(
        self,
        task_gradients: Tensor,
        coefficients: Tensor,
        task_specific_gradient: Tensor,
        *,
        skip: Tensor,
        factor: float,
    ) -> None:
        """Move all dense parameters along their gradients, or, where `skip` is set, move nothing.

        A zero gradient would not do: Adam moves on with its momentum, and AdamW decays. The fused
        kernels read the
        flag on the device, as they do for gradient scaling, so nothing waits for it.

        Args:
            task_gradients: [T, P] of the shared parameters.
            coefficients: [T] float64: the shared parameters' gradient is their combination.
            task_specific_gradient: [H] of the tasks' own parameters.
            skip: [] bool.
            factor: multiplies the learning rate.
        """
        shared, task_specific = self._vectors
        rate = factor * self._settings.learning_rate
        if self._operations.backend != "triton" or isinstance(self._settings, SgdConfig):
            shared.grad = self._operations.combine_gradients(
                task_gradients, coefficients, out=self._update
            )
        else:
            self._combine_and_move(task_gradients, coefficients, skip, rate, self._settings)
        task_specific.grad = task_specific_gradient
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.found_inf = skip.to(torch.float32)  # type: ignore[attr-defined]
        self._optimizer.step()

    def _combine_and_move(
        self,
        gradients: Tensor,
        coefficients: Tensor,
        skip: Tensor,
        rate: float,
        adam: AdamConfig | AdamWConfig,
    ) -> None:
        """Combine and Adam in one pass over memory, on the state that torch's Adam keeps."""
        from recsys_mtl.gradients import kernels  # Triton is optional, and slow to import

        shared = self._vectors[0]
        state = self._optimizer.state[shared]
        kernels.combined_adam_step(
            gradients,
            coefficients,
            clip=torch.ones_like(coefficients[0]),  # the coefficients have it
            skip=skip,
            parameter=shared,
            first_moment=state["exp_avg"],
            second_moment=state["exp_avg_sq"],
            step=state["step"],
            learning_rate=rate,
            beta1=adam.beta1,
            beta2=adam.beta2,
            epsilon=adam.epsilon,
            weight_decay=adam.weight_decay if isinstance(adam, AdamWConfig) else 0.0,
        )

    def state_dict(self, shared: FlatMemory, task_specific: FlatMemory) -> dict[str, Tensor]:
        """Moments and step counts by name; a checkpoint that is loaded writes them in place.

        Args:
            shared: the memory whose vector this optimizer moves first.
            task_specific: the other.
        """
        tensors: dict[str, Tensor] = {}
        memories = {"shared": shared, "task_specific": task_specific}
        for (part, memory), vector in zip(memories.items(), self._vectors, strict=True):
            for key, tensor in self._optimizer.state[vector].items():
                prefix = _NAMES[key]
                if tensor.ndim:
                    moments = memory.views(tensor).items()
                    tensors |= {f"{prefix}.{name}": view for name, view in moments}
                else:
                    tensors[f"{prefix}.{part}"] = tensor
        return tensors

    def _make_state(self) -> None:
        """Have the moments exist before the first step, so that a checkpoint can be loaded."""
        if isinstance(self._optimizer, torch.optim.Adam):
            for vector in self._vectors:
                self._optimizer.state[vector] = {
                    "step": torch.zeros((), dtype=torch.float32, device=vector.device),
                    "exp_avg": torch.zeros_like(vector),
                    "exp_avg_sq": torch.zeros_like(vector),
                }
