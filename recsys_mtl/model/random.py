"""Draws that do not depend on the number of workers: seeded by what they are for."""

import numpy as np
import torch


def seeded_generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` whose stream belongs to these (non-negative) numbers alone."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(seed & (2**63 - 1))
