"""Parameters and task gradients as flat memory.

T tasks, P shared parameters (padded to a multiple of 64).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

COLUMN_MULTIPLE = 64  # rows of [T, P] start 16-byte aligned, so that kernels can load 16 bytes


class FlatParameters:
    """Parameters that live side by side in one vector, the module's own tensors being views.

    One optimizer call, one all-reduce and one norm then serve them all.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.size = sum(p.numel() for p in self.parameters)
        padded = -(-self.size // COLUMN_MULTIPLE) * COLUMN_MULTIPLE
        like = self.parameters[0]
        self.vector = torch.zeros(padded, dtype=like.dtype, device=like.device)
        """[P] zeros in the padding."""
        for parameter, view in zip(self.parameters, self.views(self.vector), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view

    def task_gradients(self, num_tasks: int) -> Tensor:
        """[T, P] zeros: room for every task's gradient of these parameters."""
        return self.vector.new_zeros(num_tasks, len(self.vector))

    def views(self, row: Tensor) -> list[Tensor]:
        """A row [P] as one tensor a parameter, each of the parameter's shape."""
        pieces = torch.split(row[: self.size], [p.numel() for p in self.parameters])
        return [
            piece.view_as(parameter)
            for piece, parameter in zip(pieces, self.parameters, strict=True)
        ]

    def write_gradient(self, gradients: Sequence[Tensor], row: Tensor) -> None:
        """Put one task's gradients, a tensor a parameter, into `row` [P]; padding stays 0."""
        torch.cat([g.reshape(-1) for g in gradients], out=row[: self.size])
