"""What `training.best_by` may be: the number that says which checkpoint is the best."""

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

MEASURES = "mean_auc, auc:TASK, log_loss:TASK"
"""In words; the best checkpoint has the highest AUC, or the lowest log-loss."""


class Measure(NamedTuple):
    """A number of an evaluation."""

    quantity: str
    """`auc` or `log_loss`."""
    task: str | None
    """None for the mean over all tasks."""


def _spelled(value: str) -> str:
    if re.fullmatch(r"mean_auc|(auc|log_loss):[A-Za-z_][A-Za-z0-9_]*", value) is None:
        raise ValueError(f"{value!r} is no number of an evaluation; allowed: {MEASURES}")
    return value


BestBy = Annotated[str, AfterValidator(_spelled)]


def measure(best_by: str) -> Measure:
    """What a sound `training.best_by` names."""
    quantity, _, task = best_by.partition(":")
    return Measure(quantity.removeprefix("mean_"), task or None)


def refuse_unusable(
    best_by: str | None,
    patience_evaluations: int | None,
    evaluation_interval_steps: int | None,
    task_names: Sequence[str],
) -> None:
    """Nothing, where evaluations can be compared so.

    Raises:
        ValueError: they cannot; says what to choose.
    """
    if best_by is None:
        if patience_evaluations is not None:
            raise ValueError(
                "training.patience_evaluations counts evaluations without improvement, and "
                f"training.best_by does not say of what; set it to one of: {MEASURES}"
            )
        return
    task = measure(best_by).task
    if task is not None and task not in task_names:
        raise ValueError(
            f"training.best_by is {best_by}, and data.labels has no task {task!r}; its tasks: "
            f"{', '.join(task_names)}"
        )
    if evaluation_interval_steps is None:
        raise ValueError(
            "training.best_by compares evaluations, and without "
            "training.evaluation_interval_steps there is only the one at the end; set it, to a "
            "tenth of an epoch for example"
        )
