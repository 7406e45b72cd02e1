"""What learning rates are multiplied by at each step: warm-up, then the schedule.

A pure function of the step and the settings, so that every worker has the same factor, and a run
that goes on has the factors of an undisturbed one.
"""

import math
from typing import assert_never

from recsys_mtl.config import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    LinearSchedule,
    Schedule,
)


def learning_rate_factor(
    step: int, *, last_step: int, warm_up_steps: int, schedule: Schedule
) -> float:
    """What the learning rates of dense parameters and tables are multiplied by at `step`.

    With 2 steps of warm-up, 6 steps in all and a linear schedule to 0, the factors are 1/3, 2/3, 1,
    3/4, 1/2 and 1/4: 0 is reached after the last step.

    Args:
        step: from 0.
        last_step: steps at the end of the run.
    """
    return warm_up_factor(step, warm_up_steps) * schedule_factor(
        max(0, step - warm_up_steps), max(1, last_step - warm_up_steps), schedule
    )


def warm_up_factor(step: int, warm_up_steps: int) -> float:
    """The linear rise to 1 at `step` (from 0)."""
    return min(1.0, (step + 1) / (warm_up_steps + 1))


def schedule_factor(step: int, steps: int, schedule: Schedule) -> float:
    """What is left of 1 at `step` of the schedule.

    Args:
        step: from 0, which is the first step after warm-up.
        steps: from there to the end of the run.
    """
    if isinstance(schedule, ConstantSchedule):
        return 1.0
    final, fraction = schedule.final_factor, min(1.0, step / (schedule.decay_steps or steps))
    match schedule:
        case LinearSchedule():
            return 1.0 + (final - 1.0) * fraction
        case CosineSchedule():
            return final + (1.0 - final) * (1.0 + math.cos(math.pi * fraction)) / 2.0
        case ExponentialSchedule():
            return math.pow(final, fraction)
        case _:
            assert_never(schedule)
