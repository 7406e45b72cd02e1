"""Dropout masks that do not depend on the number of workers."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from recsys_mtl.model.random import seeded_generator

_DROPOUT = 1  # separates these draws from the tables' initial rows


def dropout_masks(
    sites: Mapping[str, int],
    probability: float,
    *,
    seed: int,
    step: int,
    lanes: Iterable[int],
    rows_per_lane: int,
    like: Tensor,
) -> dict[str, Tensor]:
    """Site to its mask, [rows of the lanes, width] of 0 or 1 / (1 - probability).

    Drawn lane by lane from (seed, step, lane), once for all sites: the same for any number of
    workers, and again after a restart.

    Args:
        sites: site to its width, in the order of drawing.
        probability: that a unit is dropped; without any, there are no masks.
        like: gives device and dtype.
    """
    if probability == 0.0 or not sites:
        return {}
    width = sum(sites.values())
    drawn = []
    for lane in lanes:
        generator = seeded_generator(seed, _DROPOUT, step, lane, device=like.device)
        drawn.append(torch.rand(rows_per_lane, width, generator=generator, device=like.device))
    kept = (torch.cat(drawn) >= probability).to(like.dtype) / (1 - probability)
    return dict(zip(sites, torch.split(kept, list(sites.values()), dim=1), strict=True))
