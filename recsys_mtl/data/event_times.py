"""When the rows of a log happened: a column's times, and the first and last of a whole log.

A label's `window` asks how old a row is at the log's last event. That event is found once, from the
footers' statistics where they have it, and handed to every worker with the manifest.

n rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_mtl.config import Data
from recsys_mtl.data.schema import UNREADABLE, DataError, in_one_line

_NS_PER_SECOND = 1_000_000_000
_NS_PER_UNIT = {"s": _NS_PER_SECOND, "ms": 1_000_000, "us": 1_000, "ns": 1}
_END_NS = 4_102_444_800 * _NS_PER_SECOND
"""The year 2100. What lies outside 1970 to 2099 is taken for another unit, or for "never"."""

EVENT_TIME_RULE = (
    "an event_time lies in 1970 to 2099, where an integer is Unix seconds and no milliseconds; "
    "write others as timestamps"
)


@dataclass(frozen=True)
class EventTimes:
    """The first and the last event of a log, in nanoseconds of Unix time."""

    first_ns: int
    last_ns: int

    @property
    def seconds(self) -> float:
        """From the first to the last."""
        return (self.last_ns - self.first_ns) / _NS_PER_SECOND

    def older_than(self, seconds: int, times_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[n] Whether so many seconds or more lie between each time and the last event."""
        return self.last_ns - times_ns >= seconds * _NS_PER_SECOND

    def before_the_end(self, seconds: int) -> str:
        """The moment so many seconds before the last event, for a person."""
        moment = datetime.fromtimestamp(self.last_ns // _NS_PER_SECOND - seconds, UTC)
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


class Times(NamedTuple):
    """A column of times, [n] each."""

    ns: NDArray[np.int64]
    """Nanoseconds of Unix time, 0 where not known."""
    known: NDArray[np.bool_]
    """False for a null, and where `absurd`."""
    absurd: NDArray[np.bool_]
    """True for what is no time that `EVENT_TIME_RULE` allows."""


def read_times(column: pa.Array) -> Times:
    """The times of a column of timestamps, dates or integers; nulls alone have any type."""
    nothing = np.zeros(len(column), dtype=np.bool_)
    if pa.types.is_null(column.type):
        return Times(np.zeros(len(column), dtype=np.int64), nothing, nothing)
    present = ~column.is_null().to_numpy(zero_copy_only=False)
    plain = column.cast(pa.int32()) if pa.types.is_date32(column.type) else column
    # Unsigned integers above 2^63 come out negative, and so absurd as they are.
    raw = plain.cast(pa.int64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False)
    possible = (raw >= 0) & (raw < _END_NS // _ns_per_count(column.type))
    known = present & possible
    return Times(np.where(known, raw, 0) * _ns_per_count(column.type), known, present & ~possible)


def spell_time(column: pa.Array, place: int) -> str:
    """The value at a place of a column of times, for a person, however far from any calendar."""
    return str(column.slice(place, 1).to_numpy(zero_copy_only=False)[0])


def _ns_per_count(kind: pa.DataType) -> int:
    """Nanoseconds that 1 stands for in a column of this type."""
    if pa.types.is_timestamp(kind):
        return _NS_PER_UNIT[kind.unit]
    if pa.types.is_date32(kind):
        return 86_400 * _NS_PER_SECOND
    return _NS_PER_UNIT["ms" if pa.types.is_date64(kind) else "s"]


def event_time_columns(data: Data) -> dict[str, str]:
    """Column to the task that first names it as its event_time."""
    named: dict[str, str] = {}
    for task, label in data.labels.items():
        if label.event_time is not None:
            named.setdefault(label.event_time, task)
    return named


def event_times_of_file(parquet: pq.ParquetFile, data: Data, file: str) -> dict[str, EventTimes]:
    """The first and last time of each event_time column in one file; none where it has no time.

    Raises:
        DataError: a value that is no time, or a row group that cannot be read, while data.on_error
            is `fail`; with `skip` they do not count.
    """
    return {
        column: found
        for column, task in event_time_columns(data).items()
        if (found := join(_of_row_groups(parquet, data, file, column, task))) is not None
    }


def join(parts: Iterable[EventTimes]) -> EventTimes | None:
    """From the earliest to the latest of all; None of none."""
    found = list(parts)
    if not found:
        return None
    return EventTimes(min(t.first_ns for t in found), max(t.last_ns for t in found))


def refuse_logs_without_times(found: Mapping[str, EventTimes], data: Data, url: str) -> None:
    """Raise DataError for an event_time column that is null from end to end."""
    for column, task in event_time_columns(data).items():
        if column not in found:
            raise DataError(
                f"column {column!r} (data.labels.{task}.event_time) holds no time at all in {url}; "
                "fill it, or leave event_time and window out"
            )


def refuse_too_short_logs(event_times: Mapping[str, EventTimes], data: Data, url: str) -> None:
    """Raise DataError for a training log in which a task's window leaves no negative at all."""
    for task, label in data.labels.items():
        if label.event_time is None or label.window_seconds is None:
            continue
        span = event_times[label.event_time]
        if span.seconds < label.window_seconds:
            raise DataError(
                f"data.labels.{task}.window is {label.window}, but {label.event_time!r} spans only "
                f"{span.seconds / 3600:.3g} hours in {url}, so no negative would count; give a "
                "longer log or a shorter window (an event_time of integers is in seconds)"
            )


def _of_row_groups(
    parquet: pq.ParquetFile, data: Data, file: str, column: str, task: str
) -> Iterator[EventTimes]:
    kind = parquet.schema_arrow.field(column).type
    for group in range(parquet.num_row_groups):
        ends = _ends_by_statistics(parquet, group, column, kind)
        times = None if ends is None else read_times(ends)
        if times is None or (times.absurd.any() and data.on_error == "skip"):
            values = _read_column(parquet, group, column, data, file)
            times = read_times(values)
        else:
            values = ends
        if times.absurd.any() and data.on_error == "fail":
            value = spell_time(values, int(times.absurd.argmax()))
            raise DataError(
                f"event_time {column!r} (data.labels.{task}) has the value {value} in {file}, row "
                f"group {group}; {EVENT_TIME_RULE} (data.on_error: skip leaves such rows out)"
            )
        if times.known.any():
            known = times.ns[times.known]
            yield EventTimes(int(known.min()), int(known.max()))


def _ends_by_statistics(
    parquet: pq.ParquetFile, group: int, column: str, kind: pa.DataType
) -> pa.Array | None:
    """The smallest and the largest value, or none of a column of nulls; None where the footer does
    not say."""
    footer = parquet.metadata
    paths = [footer.schema.column(place).path for place in range(footer.num_columns)]
    rows = footer.row_group(group)
    statistics = rows.column(paths.index(column)).statistics
    if statistics is None:
        return None
    if statistics.has_null_count and statistics.null_count == rows.num_rows:
        return pa.array([], kind)
    if not statistics.has_min_max:
        return None
    if pa.types.is_integer(kind):
        return pa.array([statistics.min, statistics.max], kind)
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        # The raw values: Python's datetime has neither nanoseconds nor the year 10000.
        counts = pa.int32() if pa.types.is_date32(kind) else pa.int64()
        return pa.array([statistics.min_raw, statistics.max_raw], counts).view(kind)
    return None


def _read_column(
    parquet: pq.ParquetFile, group: int, column: str, data: Data, file: str
) -> pa.Array:
    """One row group's column; without values where it cannot be read and data.on_error is `skip`.

    Raises:
        DataError: it cannot be read, and data.on_error is `fail`.
    """
    try:
        table = parquet.read_row_group(group, columns=[column], use_threads=False)
    except UNREADABLE as error:
        if data.on_error == "skip":
            return pa.nulls(0)
        raise DataError(
            f"{file}, row group {group}: column {column!r} cannot be read: {in_one_line(error)}; "
            "mend or remove the file (data.on_error: skip trains on without its rows)"
        ) from None
    return table.column(column).combine_chunks()
