"""Learning-rate factors: warm-up, then torch's own schedules."""

import math
import random
from itertools import pairwise

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, LRScheduler

from recsys_mtl.config import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    LinearSchedule,
    Schedule,
)
from recsys_mtl.worker.learning_rate import learning_rate_factor, warm_up_factor

CONSTANT = ConstantSchedule()
LINEAR = LinearSchedule(kind="linear")


def factors(steps: int, schedule: Schedule, *, warm_up: int = 0, more: int = 0) -> list[float]:
    """The factors of a run, and of so many steps after its end."""
    return [
        learning_rate_factor(step, last_step=steps, warm_up_steps=warm_up, schedule=schedule)
        for step in range(steps + more)
    ]


def falling(final: float, decay_steps: int | None = None) -> list[Schedule]:
    """One of each schedule that falls."""
    settings = {"final_factor": final, "decay_steps": decay_steps}
    return [
        LinearSchedule(kind="linear", **settings),
        CosineSchedule(kind="cosine", **settings),
        ExponentialSchedule(kind="exponential", **settings),
    ]


def drawn(low: int, high: int) -> int:
    seed = random.randrange(2**32)
    print("seed", seed)
    return random.Random(seed).randint(low, high)


def of_torch(schedule: Schedule, steps: int) -> list[float]:
    """The factors of torch's scheduler of the same name, from 1 at the first step."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler: LRScheduler
    match schedule:
        case ConstantSchedule():
            return [1.0] * steps
        case LinearSchedule(final_factor=final):
            scheduler = LinearLR(optimizer, start_factor=1.0, end_factor=final, total_iters=steps)
        case CosineSchedule(final_factor=final):
            scheduler = CosineAnnealingLR(optimizer, T_max=steps, eta_min=final)
        case ExponentialSchedule(final_factor=final):
            scheduler = ExponentialLR(optimizer, gamma=final ** (1 / steps))
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("schedule", [CONSTANT, *falling(0.05)], ids=lambda s: s.kind)
def test_after_warm_up_the_factors_are_those_of_torch(schedule: Schedule) -> None:
    steps, warm_up = drawn(2, 200), drawn(0, 50)
    found = factors(warm_up + steps, schedule, warm_up=warm_up)
    rise = [(step + 1) / (warm_up + 1) for step in range(warm_up)]
    assert found == pytest.approx(rise + of_torch(schedule, steps), rel=1e-12)


def test_the_example_of_the_docstring() -> None:
    expected = [1 / 3, 2 / 3, 1, 3 / 4, 1 / 2, 1 / 4]
    assert factors(6, LINEAR, warm_up=2) == pytest.approx(expected)


def test_a_constant_schedule_changes_no_bit_of_warm_up() -> None:
    assert factors(7, CONSTANT, warm_up=4) == [warm_up_factor(step, 4) for step in range(7)]
    assert factors(7, CONSTANT, warm_up=4)[4:] == [1.0, 1.0, 1.0]
    assert factors(1, CONSTANT) == [1.0]


@pytest.mark.parametrize("schedule", falling(0.05), ids=lambda s: s.kind)
def test_rates_fall_at_every_step_and_stay_at_the_final_factor(schedule: Schedule) -> None:
    found = factors(30, schedule, more=3)
    assert all(later < earlier for earlier, later in pairwise(found[:31]))
    assert found[0] == 1.0
    assert found[30:] == pytest.approx([0.05] * 3)


@pytest.mark.parametrize(
    ("shorter", "longer"),
    list(zip(falling(0.1, decay_steps=12), falling(0.1), strict=True)),
    ids=lambda s: s.kind,
)
def test_with_decay_steps_a_longer_run_goes_on_with_the_same_factors(
    shorter: Schedule, longer: Schedule
) -> None:
    assert factors(40, shorter, warm_up=3)[:25] == factors(25, shorter, warm_up=3)
    assert factors(40, shorter, warm_up=3)[15:] == pytest.approx([0.1] * 25)
    # Without them the curve is that of the longer run, and rates are higher than they were.
    assert all(
        now >= then
        for now, then in zip(
            factors(40, longer, warm_up=3)[:25], factors(25, longer, warm_up=3), strict=True
        )
    )
    assert factors(40, longer, warm_up=3)[24] > 2 * factors(25, longer, warm_up=3)[24]


@pytest.mark.parametrize("schedule", [CONSTANT, *falling(0.1)], ids=lambda s: s.kind)
def test_a_run_that_ends_within_warm_up_only_rises(schedule: Schedule) -> None:
    expected = [(step + 1) / 11 for step in range(5)]
    assert factors(5, schedule, warm_up=10) == pytest.approx(expected)


def test_every_factor_is_a_number_between_0_and_1() -> None:
    for schedule in [CONSTANT, LINEAR, *falling(1e-300), *falling(1.0, decay_steps=1)]:
        found = factors(drawn(1, 60), schedule, warm_up=drawn(0, 60), more=5)
        assert all(math.isfinite(factor) and 0 <= factor <= 1 for factor in found), schedule
