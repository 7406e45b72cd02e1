"""What a trace comes to: for each column its first, last, lowest and highest value, and its mean.

N steps of the trace.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_mtl.metrics.columns import Column, ColumnKind, layer_column

_RECENT_SHARE = 10
"""The recent mean covers the last tenth of the steps."""


@dataclass(frozen=True)
class ColumnSummary:
    """One column over all steps at which it was measured."""

    column: Column
    measured: int
    """Steps with a finite value."""
    first: float
    """NaN, as all numbers below, where nothing was measured."""
    last: float
    lowest: float
    highest: float
    recent_mean: float
    """Over the last tenth of the trace's steps, as far as they measured it."""


def columns_in(trace: pa.Table, known: Sequence[Column], tasks: Sequence[str]) -> list[Column]:
    """The columns of a trace, with their meaning where it is known, in the trace's order.

    A column that is not known is a number of the method's: of someone's own method, or of another
    version. `gain_cart` and `gain_wish` are one quantity where these are the tasks.

    Args:
        known: as `trace_columns` lists them.
        tasks: names of the tasks.
    """
    by_name = {column.name: column for column in known}
    return [
        by_name.get(field.name)
        or layer_column(field.name)
        or _unknown(field, trace.schema.names, tasks)
        for field in trace.schema
    ]


def summarise(trace: pa.Table, columns: Sequence[Column]) -> list[ColumnSummary]:
    """One summary per column.

    Args:
        trace: from `read_trace`, at least one row.
        columns: of the trace.
    """
    recent = recent_steps(trace)
    return [_summary(column, _finite(trace, column.name), recent) for column in columns]


def recent_steps(trace: pa.Table) -> int:
    """Steps that the recent mean covers."""
    return math.ceil(len(trace) / _RECENT_SHARE)


def _summary(column: Column, values: npt.NDArray[np.float64], recent: int) -> ColumnSummary:
    known, newest = values[~np.isnan(values)], values[-recent:]
    newest = newest[~np.isnan(newest)]
    if not len(known):
        return ColumnSummary(column, 0, *[float("nan")] * 5)
    return ColumnSummary(
        column,
        measured=len(known),
        first=float(known[0]),
        last=float(known[-1]),
        lowest=float(known.min()),
        highest=float(known.max()),
        recent_mean=float(newest.mean()) if len(newest) else float("nan"),
    )


def _finite(trace: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """A column as [N] float64, with NaN for what is null or infinite."""
    values = np.array(trace[name].to_pandas(), dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _unknown(field: pa.Field, names: Sequence[str], tasks: Sequence[str]) -> Column:
    kind: ColumnKind = "number"
    if pa.types.is_boolean(field.type):
        kind = "flag"
    elif pa.types.is_integer(field.type):
        kind = "count"
    for task in tasks:
        quantity = field.name.removesuffix(f"_{task}")
        if quantity != field.name and all(f"{quantity}_{other}" in names for other in tasks):
            return Column(quantity, kind, "", (task,), of_method=True)
    return Column(field.name, kind, "", of_method=True)
