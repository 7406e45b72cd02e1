"""Bottom and heads are the same for the same seed, dropout for any number of workers."""

import secrets

import pytest
import torch
from recsys_mtl.model.shared_bottom import build_dense_model, dropout_masks
from torch import Tensor

from recsys_mtl.config import Model

# B batch rows, T tasks

LIKE = torch.zeros(())
LANES = 8


def small_model(dropout: float = 0.0) -> Model:
    return Model(bottom_hidden_sizes=(32, 16), head_hidden_sizes=(8,), dropout=dropout)


def masks_of(
    model: Model, lanes: range, *, seed: int = 1, step: int = 0, rows_per_lane: int = 5
) -> list[Tensor]:
    return dropout_masks(
        model, seed=seed, step=step, lanes=lanes, rows_per_lane=rows_per_lane, like=LIKE
    )


def fresh_seed() -> int:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return seed


@pytest.mark.parametrize("head_hidden_sizes", [(), (8,), (8, 4)])
def test_every_row_gets_one_logit_a_task(head_hidden_sizes: tuple[int, ...]) -> None:
    model = Model(bottom_hidden_sizes=(32, 16), head_hidden_sizes=head_hidden_sizes)
    bottom, heads = build_dense_model(model, input_width=10, num_tasks=3, seed=0)
    representation = bottom(torch.randn(7, 10))
    assert representation.shape == (7, 16)
    assert (representation >= 0).all()
    assert heads(representation).shape == (7, 3)


def test_each_logit_comes_from_the_head_of_its_own_task() -> None:
    _, heads = build_dense_model(small_model(), input_width=10, num_tasks=3, seed=fresh_seed())
    representation = torch.rand(4, 16)
    before = heads(representation)
    with torch.no_grad():
        for parameter in heads.towers[1].parameters():
            parameter.add_(1.0)
    changed = (heads(representation) != before).any(dim=0)
    assert changed.tolist() == [False, True, False]


def test_the_same_seed_builds_the_same_parameters_and_leaves_other_draws_alone() -> None:
    seed = fresh_seed()
    torch.manual_seed(seed + 1)
    untouched = torch.rand(3)
    torch.manual_seed(seed + 1)
    states = []
    for other_draws in range(2):
        states.append([m.state_dict() for m in build_dense_model(small_model(), 10, 3, seed)])
        if other_draws == 0:
            assert torch.equal(torch.rand(3), untouched)
    for first, second in zip(*states, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_builds_other_parameters() -> None:
    seed = fresh_seed()
    (bottom, _), (other, _) = (build_dense_model(small_model(), 10, 3, seed + i) for i in (0, 1))
    assert not torch.equal(*(b.state_dict()["layers.0.weight"] for b in (bottom, other)))


def test_dropped_units_are_zero_and_the_others_are_scaled_after_every_layer() -> None:
    bottom, _ = build_dense_model(small_model(), input_width=10, num_tasks=1, seed=fresh_seed())
    inputs = torch.randn(6, 10)
    first, last = masks_of(small_model(dropout=0.5), range(2), rows_per_lane=3)
    with torch.no_grad():
        hidden = bottom.layers[0](inputs).clamp(min=0) * first
        expected = bottom.layers[1](hidden).clamp(min=0) * last
        torch.testing.assert_close(bottom(inputs, [first, last]), expected)
    assert not torch.equal(expected, bottom(inputs))


@pytest.mark.parametrize("num_workers", [1, 2, 4, 8])
def test_masks_are_the_same_for_any_split_of_the_lanes_over_workers(num_workers: int) -> None:
    seed, model = fresh_seed(), small_model(dropout=0.4)
    whole = masks_of(model, range(LANES), seed=seed, step=3)
    for rank in range(num_workers):
        lanes = range(rank, LANES, num_workers)
        rows = torch.cat([torch.arange(5 * lane, 5 * lane + 5) for lane in lanes])
        for own, mask in zip(masks_of(model, lanes, seed=seed, step=3), whole, strict=True):
            assert torch.equal(own, mask[rows])


def test_masks_are_zero_in_about_the_configured_share_and_else_scaled_up() -> None:
    seed = fresh_seed()
    dropout = 0.1 + 0.8 * torch.rand((), generator=torch.Generator().manual_seed(seed)).item()
    masks = masks_of(small_model(dropout), range(LANES), seed=seed, rows_per_lane=500)
    assert [tuple(mask.shape) for mask in masks] == [(4000, 32), (4000, 16)]
    for mask in masks:
        assert list(set(mask[mask != 0].tolist())) == pytest.approx([1 / (1 - dropout)])
        # 64,000 draws: six standard deviations are at most 0.012.
        assert (mask == 0).double().mean().item() == pytest.approx(dropout, abs=0.012)


def test_masks_differ_from_step_to_step_lane_to_lane_and_seed_to_seed() -> None:
    seed, model = fresh_seed(), small_model(dropout=0.5)

    def first(lane: int, step: int, seed: int) -> Tensor:
        return masks_of(model, range(lane, lane + 1), seed=seed, step=step)[0]

    drawn = [first(lane, step, seed) for lane in range(3) for step in range(3)]
    drawn.append(first(0, 0, seed + 1))
    distinct = {tuple(mask.flatten().tolist()) for mask in drawn}
    assert len(distinct) == len(drawn)


def test_a_restart_draws_a_step_s_masks_again_whatever_was_drawn_in_between() -> None:
    seed, model = fresh_seed(), small_model(dropout=0.5)
    before = masks_of(model, range(2), seed=seed, step=9)
    torch.rand(100)
    masks_of(model, range(2), seed=seed, step=10)
    for again, mask in zip(masks_of(model, range(2), seed=seed, step=9), before, strict=True):
        assert torch.equal(again, mask)


def test_masks_have_the_dtype_of_the_model() -> None:
    like = LIKE.to(torch.float64)
    masks = dropout_masks(
        small_model(0.5), seed=0, step=0, lanes=range(2), rows_per_lane=1, like=like
    )
    assert {mask.dtype for mask in masks} == {torch.float64}


def test_no_masks_are_drawn_without_dropout() -> None:
    assert masks_of(small_model(dropout=0.0), range(LANES)) == []
