"""Who this worker is."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class WorkerContext:
    """One worker of the run; a torch.distributed process group exists."""

    rank: int
    """0 to world_size - 1; rank 0 writes what is written once."""
    world_size: int
    """Workers of the run."""
    local_world_size: int
    """Workers on this machine."""
    device: torch.device
    """Where its tensors live."""
