"""Arrow columns to labels: what each row tells each task, and how much it counts.

n rows, T tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_mtl.config import Data, Label
from recsys_mtl.data.event_times import EVENT_TIME_RULE, EventTimes, read_times, spell_time
from recsys_mtl.data.numbers import numbers
from recsys_mtl.data.schema import DataError

LARGEST_WEIGHT = 1e30
"""The sum of a batch's weights stays finite in float32."""

RULES = {
    "label": "a label is 0, 1 or null",
    "sample_weight": (
        f"a weight is a number from 0 to {LARGEST_WEIGHT:g}, and null only where the row does not "
        "count for the task"
    ),
    "only_where": "it is 1 where the row counts for the task, else 0 or null",
    "event_time": EVENT_TIME_RULE,
}
"""What is usable, by the reason that a row is rejected for."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class EncodedLabels:
    """What n rows tell T tasks."""

    values: NDArray[np.float64]
    """[n, T]; anything where masked."""
    mask: Flags
    """[n, T] True where the row counts for the task."""
    weights: NDArray[np.float32] | None
    """[n, T] How much it counts, 1 for tasks without a sample_weight; anything where masked. None
    where no task has one."""
    unusable: Mapping[str, Flags]
    """[n] per reason of `RULES`: whether something in the row is not usable."""


def encode_labels(
    columns: Mapping[str, pa.Array],
    data: Data,
    event_times: Mapping[str, EventTimes],
    source: str,
) -> EncodedLabels:
    """The labels of n rows, whose columns these are.

    Args:
        event_times: of the whole log, by column; for every column that a window looks at.
        source: the rows' files, for a person.

    Raises:
        DataError: something is not usable while data.on_error is `fail`.
    """
    rows = len(next(iter(columns.values())))
    judge = _Judge(rows, source, refuses=data.on_error == "fail")
    values, masks, weights = [], [], []
    for task, label in data.labels.items():
        value, counts = numbers(columns[label.column])
        is_bad = counts & (value != 0) & (value != 1)
        judge.look("label", label.column, task, is_bad, columns)
        if label.only_where is not None:
            counts = counts & _is_chosen(label.only_where, task, columns, judge)
        if label.event_time is not None:
            is_old = _is_old(label, task, columns, event_times, judge)
            counts = counts & ((value == 1) | is_old)  # a positive is known however young it is
        if label.sample_weight is not None:
            weight = _weights(label.sample_weight, task, counts, columns, judge)
            counts = counts & (weight > 0)
        else:
            weight = np.ones(rows, dtype=np.float32)
        values.append(value)
        masks.append(counts)
        weights.append(weight)
    return EncodedLabels(
        values=np.stack(values, axis=1),
        mask=np.stack(masks, axis=1),
        weights=np.stack(weights, axis=1) if data.weighs_rows else None,
        unusable=judge.unusable,
    )


def unusable_value(reason: str, column: str, task: str, value: str, source: str) -> str:
    """One sentence about a value that cannot be used."""
    return (
        f"{reason} {column!r} (data.labels.{task}) has the value {value} in {source}; "
        f"{RULES[reason]} (data.on_error: skip leaves such rows out)"
    )


class _Judge:
    """Finds the rows that are not usable; refuses the first, or collects them."""

    def __init__(self, rows: int, source: str, *, refuses: bool) -> None:
        self._source, self._refuses = source, refuses
        self.unusable = {reason: np.zeros(rows, dtype=np.bool_) for reason in RULES}

    def look(
        self, reason: str, column: str, task: str, is_bad: Flags, columns: Mapping[str, pa.Array]
    ) -> None:
        """Raises DataError where a row [n] is bad, or keeps it in mind."""
        if self._refuses and is_bad.any():
            place = int(is_bad.argmax())
            value = _spell(columns[column], place, is_time=reason == "event_time")
            raise DataError(unusable_value(reason, column, task, value, self._source))
        self.unusable[reason] |= is_bad


def _spell(column: pa.Array, place: int, *, is_time: bool) -> str:
    if is_time:
        return spell_time(column, place)
    values, known = numbers(column.slice(place, 1))
    return f"{values[0]:g}" if known[0] else "null"


def _is_chosen(
    column: str, task: str, columns: Mapping[str, pa.Array], judge: _Judge
) -> NDArray[np.bool_]:
    """[n] Whether only_where says 1."""
    value, known = numbers(columns[column])
    judge.look("only_where", column, task, known & (value != 0) & (value != 1), columns)
    chosen: NDArray[np.bool_] = known & (value == 1)
    return chosen


def _is_old(
    label: Label,
    task: str,
    columns: Mapping[str, pa.Array],
    event_times: Mapping[str, EventTimes],
    judge: _Judge,
) -> NDArray[np.bool_]:
    """[n] Whether the row is known to be as old as the window when the log ends."""
    assert label.event_time is not None
    assert label.window_seconds is not None
    times = read_times(columns[label.event_time])
    judge.look("event_time", label.event_time, task, times.absurd, columns)
    return times.known & event_times[label.event_time].older_than(label.window_seconds, times.ns)


def _weights(
    column: str, task: str, counts: Flags, columns: Mapping[str, pa.Array], judge: _Judge
) -> NDArray[np.float32]:
    """[n] The sample weights, 0 where a row that does not count has none."""
    value, known = numbers(columns[column])
    is_possible = (value >= 0) & (value <= LARGEST_WEIGHT)
    judge.look("sample_weight", column, task, ~is_possible | (counts & ~known), columns)
    return np.where(is_possible, value, 0.0).astype(np.float32)
