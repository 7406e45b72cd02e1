"""recsys-mtl trace: what a run's trace comes to, and its picture."""

import argparse
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from recsys_mtl.commands.arguments import Commands
from recsys_mtl.commands.printing import print_lines
from recsys_mtl.config import UserError

if TYPE_CHECKING:
    from recsys_mtl.driver.run_trace import RunTrace
    from recsys_mtl.metrics.columns import Column
    from recsys_mtl.metrics.trace_summary import ColumnSummary

_NUMBERS = ("first", "last", "lowest", "highest", "recent mean", "steps")


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "trace",
        help="print a run's trace with what each column means, or draw it; also while it trains",
    )
    parser.add_argument("run", metavar="RUN", help="the run's folder or URL")
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="COLUMN",
        help="print these alone: columns such as loss_cart, or quantities such as loss",
    )
    parser.add_argument(
        "--csv", action="store_true", help="print every step as CSV instead of the summary"
    )
    parser.add_argument(
        "--picture", metavar="FILE", help="draw the trace as PNG to this path or URL, too"
    )
    parser.set_defaults(command=trace)


def trace(options: argparse.Namespace) -> int:
    """Print, and draw, what was asked for."""
    from recsys_mtl.driver.run_trace import load_run_trace

    found = load_run_trace(options.run)
    columns = _asked_for(found, options.columns)
    if options.picture is not None:
        _draw(found, options.picture)
    print_lines(_csv(found, columns) if options.csv else _summary(found, columns))
    return 0


def _asked_for(found: "RunTrace", names: Sequence[str] | None) -> list["Column"]:
    """The columns that were named, in the trace's order; all of them by default."""
    if names is None:
        return found.columns
    asked = [c for c in found.columns if c.name in names or c.quantity in names]
    there = {name for column in asked for name in (column.name, column.quantity)}
    for name in names:
        if name not in there:
            quantities = dict.fromkeys(column.quantity for column in found.columns)
            raise UserError(
                f"--columns: the trace has no {name!r}; its quantities: {', '.join(quantities)}"
            )
    return asked


def _draw(found: "RunTrace", place: str) -> None:
    import fsspec

    from recsys_mtl.metrics.figure import draw_traces

    picture = io.BytesIO()
    try:
        draw_traces(found.table, found.columns, picture)
    except ValueError as error:
        raise UserError(f"--picture: {error}") from None
    try:
        with fsspec.open(place, "wb") as file:
            file.write(picture.getvalue())
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"--picture {place} cannot be written: {error}") from None


def _csv(found: "RunTrace", columns: Sequence["Column"]) -> Iterator[str]:
    from pyarrow import csv

    names = dict.fromkeys(["step", *(column.name for column in columns)])
    text = io.BytesIO()
    csv.write_csv(found.table.select(list(names)), text)
    yield from text.getvalue().decode().splitlines()


def _summary(found: "RunTrace", columns: Sequence["Column"]) -> Iterator[str]:
    """Yield a heading, and per quantity its meaning and one line per column."""
    from recsys_mtl.metrics.trace_summary import recent_steps, summarise

    steps, attempts = found.table["step"], found.table["attempt"].unique()
    yield (
        f"run {found.name}: steps {steps[0].as_py():,} to {steps[-1].as_py():,}, in "
        f"{len(attempts)} attempt(s); {'' if found.is_finished else 'not '}finished"
    )
    yield (
        f"recent mean: over the last {recent_steps(found.table):,} steps; steps: at which it was "
        "measured"
    )
    summaries = summarise(found.table, columns)
    width = max(len(summary.column.name) for summary in summaries) + 2
    yield ""
    yield " " * width + "".join(f"{number:>13}" for number in _NUMBERS)
    for _, group in groupby(summaries, key=lambda summary: summary.column.quantity):
        lines = list(group)
        yield ""
        yield lines[0].column.help or f"{lines[0].column.quantity}: as the method reports it."
        for summary in lines:
            yield f"  {summary.column.name:<{width - 2}}" + "".join(_numbers(summary))


def _numbers(summary: "ColumnSummary") -> Iterator[str]:
    values = (summary.first, summary.last, summary.lowest, summary.highest, summary.recent_mean)
    for value in values:
        yield f"{'-':>13}" if value != value else f"{value:>13.5g}"
    yield f"{summary.measured:>13,}"
