"""Parameters and their gradients as flat memory, layer by layer.

T tasks, P parameters (every layer padded to a multiple of 64).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

COLUMN_MULTIPLE = 64
"""Every layer, and so every row of [T, P], starts 16-byte aligned: kernels load 16 bytes at a time,
and products of single layers are products of columns."""


class FlatMemory:
    """Parameters that live side by side in one vector, the module's own tensors being views.

    One optimizer call, one all-reduce and one norm then serve them all.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        layers: Mapping[str, Sequence[str]],
        device: torch.device,
    ) -> None:
        """Move the parameters into one vector on `device`.

        Args:
            parameters: by name.
            layers: layer to the names of its parameters; each parameter is in one layer.
        """
        self._shapes = {name: p.shape for name, p in parameters.items()}
        self._starts: dict[str, int] = {}
        self.layer_columns: dict[str, slice] = {}
        """Layer to its columns in a row [P], padding included."""
        end = 0
        for layer, names in layers.items():
            begin = end
            for name in names:
                self._starts[name] = end
                end += parameters[name].numel()
            end = -(-end // COLUMN_MULTIPLE) * COLUMN_MULTIPLE
            self.layer_columns[layer] = slice(begin, end)
        assert self._starts.keys() == parameters.keys(), "each parameter is in one layer"
        self.size = sum(shape.numel() for shape in self._shapes.values())
        """Numbers in all parameters, without padding."""
        # Without any parameter there is still a row, so that every body takes the same path.
        dtype = next((p.dtype for p in parameters.values()), torch.float32)
        self.vector = torch.zeros(max(end, COLUMN_MULTIPLE), dtype=dtype, device=device)
        """[P] zeros in the padding."""
        for name, view in self.views(self.vector).items():
            view.copy_(parameters[name].detach())
            parameters[name].data = view

    def rows(self, num_rows: int) -> Tensor:
        """[num_rows, P] zeros: room for gradients of these parameters."""
        return self.vector.new_zeros(num_rows, len(self.vector))

    def views(self, row: Tensor) -> dict[str, Tensor]:
        """A row [P] as one tensor per parameter, by name, each of the parameter's shape."""
        return {
            name: row[start : start + self._shapes[name].numel()].view(self._shapes[name])
            for name, start in self._starts.items()
        }
