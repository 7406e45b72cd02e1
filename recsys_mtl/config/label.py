"""What a task learns of a row, and from which rows."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import BeforeValidator, model_validator

from recsys_mtl.config.section import PositiveFloat, Section

_SECONDS_PER_UNIT = {"m": 60, "h": 3_600, "d": 86_400}


def _duration(value: object) -> object:
    if not isinstance(value, str) or re.fullmatch(r"[1-9][0-9]{0,4}[mhd]", value) is None:
        raise ValueError(
            f"{value!r} is no length of time; write whole minutes, hours or days: 30m, 12h or 3d"
        )
    return value


def seconds_of(duration: str) -> int:
    """The seconds of a text such as `30m`, `12h` or `3d`."""
    return int(duration[:-1]) * _SECONDS_PER_UNIT[duration[-1]]


class Label(Section):
    """What a task learns: a column of 0, 1 and null, and which rows count, by how much."""

    column: str
    """Parquet column of 0, 1 or null (not known). A text in place of the section is this alone."""
    sample_weight: str | None = None
    """Numeric column: how much each row counts, from 0 (not at all) on. The task's loss is the
    weighted mean over its labelled rows, and so are log-loss, calibration and AUC."""
    loss_weight: PositiveFloat = 1.0
    """Multiplies the task's loss, and so the gradient that the method sees. Metrics, and the
    losses that are shown, are without it."""
    only_where: str | None = None
    """Column of 0, 1 or null: rows where it is not 1 do not count for the task. With a column of
    clicks, the task is the conversion after a click."""
    event_time: str | None = None
    """When the row happened, for `window`: a column of timestamps (UTC where they name no zone),
    of dates, or of integers, which are Unix seconds."""
    window: Annotated[str, BeforeValidator(_duration, json_schema_input_type=str)] | None = None
    """How long a positive may take to arrive: minutes, hours or days, as in 30m, 12h or 3d. A
    negative younger than that at the log's last event may still become a positive, and does not
    count; nor does one without a time. Positives count however young, so the youngest rows have too
    many of them: keep the window short beside the log."""

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        if self.event_time is not None and self.window is None:
            raise ValueError(
                "event_time does nothing without a window; add one such as `window: 3d`, or leave "
                "event_time out"
            )
        if self.window is not None and self.event_time is None:
            raise ValueError(
                "window needs an event_time; name the column that says when the row happened"
            )
        for setting, column in self.columns():
            if setting != "column" and column == self.column:
                raise ValueError(
                    f"{setting} is {column!r}, the label itself, so that rows would count by their "
                    "answer; name another column"
                )
        return self

    @property
    def window_seconds(self) -> int | None:
        """`window` in seconds."""
        return None if self.window is None else seconds_of(self.window)

    def columns(self) -> Iterator[tuple[str, str]]:
        """(setting, column) of every column that it reads, that of the label first."""
        for setting in ("column", "sample_weight", "only_where", "event_time"):
            column = getattr(self, setting)
            if column is not None:
                yield setting, column

    def reads_the_same_as(self, other: "Label") -> bool:
        """Whether both count the same rows by the same amount."""
        return self.model_copy(update={"loss_weight": other.loss_weight}) == other


def judge_alike(ours: Mapping[str, Label], theirs: Mapping[str, Label]) -> bool:
    """Whether two runs' metrics can be compared: the same tasks in one order, on the same rows."""
    return list(ours) == list(theirs) and all(
        label.reads_the_same_as(theirs[task]) for task, label in ours.items()
    )


def _from_column_name(value: object) -> object:
    if isinstance(value, str):
        return {"column": value}
    if not isinstance(value, dict | Label):
        raise ValueError(
            f"must be the name of a column, or hold keys (found {value!r}); allowed: "
            f"{', '.join(Label.model_fields)}"
        )
    return value


LabelOrColumn = Annotated[
    Label, BeforeValidator(_from_column_name, json_schema_input_type=str | Label)
]
"""A label, or the name of its column where it has no other setting."""
