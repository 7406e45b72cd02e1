"""Memory for the interpreted kernels to write that shows where they did not."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True, scope="module")
def poisoned_outputs() -> Iterator[None]:
    """Memory that no kernel has written holds NaN, or 255 where a flag is 0 or 1."""
    empty = torch.empty

    def poisoned(*shape: Any, **options: Any) -> Tensor:
        tensor = empty(*shape, **options)
        if tensor.dtype == torch.bool:
            tensor.view(torch.uint8).fill_(255)
            return tensor
        return tensor.fill_(math.nan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", poisoned)
        yield


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    print("seed", torch.seed())
    return torch.randn(shape, dtype=torch.float64).to(dtype)
