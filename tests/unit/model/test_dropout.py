"""Dropout masks are the same for any number of workers, and again after a restart."""

import secrets

import pytest
import torch
from torch import Tensor

from recsys_mtl.model.dropout import dropout_masks
from recsys_mtl.model.random import seeded_generator

# B batch rows
LIKE = torch.zeros(())
LANES = 8
SITES = {"bottom.layers.0": 32, "bottom.layers.1": 16}


def masks_of(
    probability: float,
    lanes: range,
    *,
    seed: int = 1,
    step: int = 0,
    rows_per_lane: int = 5,
    like: Tensor = LIKE,
) -> dict[str, Tensor]:
    return dropout_masks(
        SITES,
        probability,
        seed=seed,
        step=step,
        lanes=lanes,
        rows_per_lane=rows_per_lane,
        like=like,
    )


def fresh_seed() -> int:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return seed


@pytest.mark.parametrize("num_workers", [1, 2, 4, 8])
def test_masks_are_the_same_for_any_split_of_the_lanes_over_workers(num_workers: int) -> None:
    seed = fresh_seed()
    whole = masks_of(0.4, range(LANES), seed=seed, step=3)
    assert whole.keys() == SITES.keys()
    for rank in range(num_workers):
        lanes = range(rank, LANES, num_workers)
        rows = torch.cat([torch.arange(5 * lane, 5 * lane + 5) for lane in lanes])
        own = masks_of(0.4, lanes, seed=seed, step=3)
        for site, mask in whole.items():
            assert torch.equal(own[site], mask[rows])


def test_masks_are_zero_in_about_the_configured_share_and_else_scaled_up() -> None:
    seed = fresh_seed()
    dropout = 0.1 + 0.8 * torch.rand((), generator=torch.Generator().manual_seed(seed)).item()
    masks = masks_of(dropout, range(LANES), seed=seed, rows_per_lane=500)
    shapes = {site: tuple(mask.shape) for site, mask in masks.items()}
    assert shapes == {"bottom.layers.0": (4000, 32), "bottom.layers.1": (4000, 16)}
    for mask in masks.values():
        assert list(set(mask[mask != 0].tolist())) == pytest.approx([1 / (1 - dropout)])
        # 64,000 draws: six standard deviations are at most 0.012.
        assert (mask == 0).double().mean().item() == pytest.approx(dropout, abs=0.012)


def test_masks_differ_from_step_to_step_lane_to_lane_seed_to_seed_and_site_to_site() -> None:
    seed = fresh_seed()

    def drawn_for(lane: int, step: int, seed: int) -> list[Tensor]:
        masks = masks_of(0.5, range(lane, lane + 1), seed=seed, step=step)
        return [mask[:, :16] for mask in masks.values()]

    drawn = [mask for lane in range(3) for step in range(3) for mask in drawn_for(lane, step, seed)]
    drawn += drawn_for(0, 0, seed + 1)
    distinct = {tuple(mask.flatten().tolist()) for mask in drawn}
    assert len(distinct) == len(drawn)


def test_a_restart_draws_a_step_s_masks_again_whatever_was_drawn_in_between() -> None:
    seed = fresh_seed()
    before = masks_of(0.5, range(2), seed=seed, step=9)
    torch.rand(100)
    masks_of(0.5, range(2), seed=seed, step=10)
    again = masks_of(0.5, range(2), seed=seed, step=9)
    assert all(torch.equal(again[site], before[site]) for site in SITES)


def test_a_lane_s_masks_are_one_draw_for_all_sites_in_their_order() -> None:
    # As earlier releases drew them: a run of theirs that goes on repeats what it would have done.
    seed, probability = fresh_seed(), 0.3
    drawn = []
    for lane in (2, 5):
        generator = seeded_generator(seed, 1, 7, lane)
        drawn.append(torch.rand(4, 32 + 16, generator=generator))
    kept = (torch.cat(drawn) >= probability).float() / (1 - probability)
    masks = masks_of(probability, range(2, 6, 3), seed=seed, step=7, rows_per_lane=4)
    assert torch.equal(masks["bottom.layers.0"], kept[:, :32])
    assert torch.equal(masks["bottom.layers.1"], kept[:, 32:])


def test_masks_have_the_dtype_of_the_model() -> None:
    masks = masks_of(0.5, range(2), like=LIKE.to(torch.float64))
    assert {mask.dtype for mask in masks.values()} == {torch.float64}


def test_no_masks_are_drawn_without_dropout_or_without_sites() -> None:
    assert masks_of(0.0, range(LANES)) == {}
    no_sites = dropout_masks(
        {}, 0.5, seed=0, step=0, lanes=range(LANES), rows_per_lane=5, like=LIKE
    )
    assert no_sites == {}
