"""traces.png: a run's weights, losses, cosines, AUC, what its method reports, and the conflicts in
its layers, over its steps."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter

from recsys_mtl.metrics.columns import TABLE_PREFIX, Column

# N steps of the trace, K of them at which a number was measured

FloatArray = npt.NDArray[np.float64]

# Okabe and Ito's palette, which the colour-blind can tell apart, without its black and yellow.
TASK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Pairs get others, so that no pair looks like a task.
PAIR_COLOURS = ("#5D3A9B", "#8C564B", "#17A2B8", "#7F7F7F", "#9ACD32", "#B03060")
STEP_COLOUR = "#24292F"
# Lines show a mean over about a fiftieth of the run, so that noise does not hide the course.
SMOOTHED_SHARE = 50
# The faint lines of more series than these hide each other.
MOST_FAINT_LINES = 6
# A line of more points shows none of them.
MOST_MARKED_POINTS = 50
# The layers and tables with the most conflicts have a line; more could not be told apart.
MOST_LAYERS = 12
# A line breaks where nothing was measured for more than this many of its usual distances.
LONGEST_BRIDGE = 3
# Characters of one line of a caption: as many as stand above a panel of half the width.
CAPTION_WIDTH = 90


@dataclass(frozen=True)
class _Panel:
    """One of the picture's panels."""

    title: str
    label: str
    """Stands beside the vertical axis: what is drawn, and its unit."""
    columns: Sequence[Column]
    """One line per column."""
    caption: str = ""
    """Stands below the title."""
    log_scale: bool = False
    zero_line: bool = False
    as_points: bool = False
    """Whether each value is drawn as it is, and not a mean of its neighbours."""
    is_sum: bool = False
    """Whether a line shows the sum of its values up to each step."""


def draw_traces(
    trace: pa.Table, columns: Sequence[Column], path_or_file: str | Path | IO[bytes]
) -> None:
    """Draws the trace as a PNG of 1600 x 1000 pixels, and 500 pixels more per two further panels.

    Four panels stand in every picture; below them is one per number that the method reports, and
    for a run with the section `recon` one of its layers and one of its tables. Values that are not
    finite are left out; a panel without any says "not measured".

    Args:
        trace: from `read_trace`, at least one row.
        columns: of the trace, as `trace_columns` lists them.
        path_or_file: where the picture is written.

    Raises:
        ValueError: the trace is empty or lacks a column that is drawn.
    """
    if trace.num_rows == 0:
        raise ValueError("the trace has no rows to draw; draw it after the first step")
    panels = [
        *_panels_of_every_run(columns),
        *_method_panels(columns),
        *_layer_panels(trace, columns),
    ]
    rows = (len(panels) + 1) // 2
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    figure = Figure(figsize=(16, 5 * rows), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    grid, first = figure.add_gridspec(rows, 2), None
    for place, panel in enumerate(panels):
        is_alone = place % 2 == 0 and place == len(panels) - 1
        across = slice(None) if is_alone else place % 2
        axes = figure.add_subplot(grid[place // 2, across], sharex=first)
        first = first or axes
        _draw_panel(axes, panel, trace)
    figure.savefig(path_or_file, format="png")


def _panels_of_every_run(columns: Sequence[Column]) -> Iterator[_Panel]:
    def of(quantity: str) -> list[Column]:
        return [column for column in columns if column.quantity == quantity]

    yield _Panel("Task weights", "weight $w$ of the task's gradient", of("weight"))
    losses = "loss of the global batch (nats per row)"
    yield _Panel("Training losses", losses, of("loss"), log_scale=True)
    cosines = "cosine (below 0: conflict)"
    yield _Panel("Cosines between task gradients", cosines, of("cosine"), zero_line=True)
    aucs, title = of("auc_window"), "Training AUC over a window of steps"
    yield _Panel(title, "area under the ROC curve", aucs, as_points=True)


def _method_panels(columns: Sequence[Column]) -> Iterator[_Panel]:
    """Yields one panel per number of the method, in the words of its columns."""
    numbers = (column for column in columns if column.of_method and column.kind == "number")
    for quantity, group in groupby(numbers, key=lambda column: column.quantity):
        drawn = list(group)
        title = quantity.replace("_", " ").capitalize()
        yield _Panel(title, quantity, drawn, textwrap.fill(drawn[0].help, CAPTION_WIDTH))


def _layer_panels(trace: pa.Table, columns: Sequence[Column]) -> Iterator[_Panel]:
    """Yields a panel of the layers and one of the tables whose conflicting pairs are counted.

    Those with the most come first.
    """
    counted = [column for column in columns if column.quantity == "conflicting_pairs"]
    ranked = sorted(counted, key=lambda column: -np.nansum(_values(trace, column.name)))
    for what, is_table in (("layer", False), ("table", True)):
        drawn = [c for c in ranked if c.layer.startswith(TABLE_PREFIX) == is_table]
        if not drawn:
            continue
        title = f"Conflicts per {what}"
        if len(drawn) > MOST_LAYERS:
            title = f"{title}: the {MOST_LAYERS} with the most, of {len(drawn)}"
        label = "conflicting pairs of tasks so far"
        caption = textwrap.fill(drawn[0].help, CAPTION_WIDTH)
        yield _Panel(title, label, drawn[:MOST_LAYERS], caption, is_sum=True)


def _draw_panel(axes: Any, panel: _Panel, trace: pa.Table) -> None:
    lines = len(panel.caption.splitlines())
    axes.set_title(panel.title, fontsize=15, fontweight="bold", loc="left", pad=6 + 14 * lines)
    axes.annotate(
        panel.caption,
        (0.0, 1.0),
        xytext=(0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=10,
        color="0.35",
    )
    axes.set_ylabel(panel.label, fontsize=12)
    axes.set_xlabel("training step", fontsize=12)
    draw_line = _draw_points if panel.as_points else _draw_smoothed
    with_faint_lines = len(panel.columns) <= MOST_FAINT_LINES
    steps = _values(trace, "step")
    for column, colour in zip(panel.columns, _colours(panel.columns), strict=True):
        values = _values(trace, column.name)
        if np.isnan(values).all():
            continue
        label = " · ".join(column.tasks) or "all tasks"
        if panel.is_sum:
            values = np.where(np.isnan(values), np.nan, np.nancumsum(values))
            label = f"{column.layer} ({np.nanmax(values):,.0f})"
        draw_line(axes, steps, values, with_faint_lines, color=colour, label=label)
    if panel.log_scale:
        _use_log_scale(axes)
    if panel.zero_line:
        axes.axhline(0.0, color="black", linewidth=1.0, zorder=1.9)
    _finish(axes, trace)


def _draw_smoothed(
    axes: Any, steps: FloatArray, values: FloatArray, with_faint_line: bool, **style: Any
) -> None:
    """Draws the values as a faint line, and their running mean as a strong one above it.

    Args:
        steps, values: [N].
    """
    width = max(1, len(steps) // SMOOTHED_SHARE)
    if width > 1 and with_faint_line:
        faint = {"color": style["color"], "alpha": 0.2, "linewidth": 0.8, "zorder": 1.5}
        axes.plot(*without_short_gaps(steps, values), **faint)
    points = without_short_gaps(steps, running_mean(values, width))
    # A single step leaves no line to see.
    marker = "o" if len(points[0]) <= MOST_MARKED_POINTS else None
    axes.plot(*points, linewidth=2.0, marker=marker, ms=4, **style)


def _draw_points(
    axes: Any, steps: FloatArray, values: FloatArray, with_faint_line: bool, **style: Any
) -> None:
    """Draws the steps at which the value was measured, as points on a thin line."""
    known = ~np.isnan(values)
    axes.plot(steps[known], values[known], linewidth=1.2, marker="o", ms=4, **style)


def without_short_gaps(steps: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns the measured points, with a NaN wherever their line is to break.

    What is measured at every 10th step is one line; where a task had no labels for long, its line
    has a gap. Points at steps 0, 10, 20, 60 lie 10, 10 and 40 apart, so the line breaks before 60.

    Args:
        steps: [N] ascending.
        values: [N], NaN where nothing was measured.

    Returns:
        steps and values, each [K + breaks].
    """
    known = ~np.isnan(values)
    steps, values = steps[known], values[known]
    distances = np.diff(steps)
    usual = np.median(distances) if len(distances) else 0.0
    breaks = np.flatnonzero(distances > LONGEST_BRIDGE * usual) + 1
    return np.insert(steps, breaks, steps[breaks]), np.insert(values, breaks, np.nan)


def running_mean(values: FloatArray, width: int) -> FloatArray:
    """Returns the mean of the values at most width / 2 steps away, over those that are not NaN.

    Args:
        values: [N].
        width: steps, at least 1.

    Returns:
        [N]; NaN where the whole neighbourhood is, and where the value itself is, so that a gap
        stays a gap.
    """
    known = ~np.isnan(values)
    totals = np.concatenate(([0.0], np.cumsum(np.where(known, values, 0.0))))
    counts = np.concatenate(([0], np.cumsum(known)))
    centre = np.arange(len(values))
    first = np.maximum(centre - width // 2, 0)
    last = np.minimum(centre + (width - 1) // 2 + 1, len(values))
    mean = (totals[last] - totals[first]) / np.maximum(counts[last] - counts[first], 1)
    return np.where(known, mean, np.nan)


def _values(trace: pa.Table, column: str) -> FloatArray:
    """Returns a column as [N] float64, with NaN for what is null or infinite."""
    if column not in trace.column_names:
        raise ValueError(
            f"the trace has no column '{column}', which the picture needs; it has: "
            f"{trace.column_names}"
        )
    values = np.array(trace[column].to_pandas(), dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _colours(columns: Sequence[Column]) -> list[Any]:
    """Returns one colour per column; a task has the same one in all panels."""
    tasks_per_column = max((len(column.tasks) for column in columns), default=0)
    palette = ((STEP_COLOUR,), TASK_COLOURS, PAIR_COLOURS)[tasks_per_column]
    if len(columns) <= len(palette):
        return list(palette[: len(columns)])
    return [colormaps["tab20"](i % 20) for i in range(len(columns))]


def _use_log_scale(axes: Any) -> None:
    """Makes room for losses of rare events, which lie decades below those of common ones."""
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 3.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))


def _finish(axes: Any, trace: pa.Table) -> None:
    """Adds grid, restarts and legend, or the words "not measured" where nothing was drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(labelbottom=True)
    if not axes.get_legend_handles_labels()[0]:
        axes.text(0.5, 0.55, "not measured", transform=axes.transAxes, ha="center", fontsize=15)
        axes.set_yticks([], minor=False)
        axes.set_yticks([], minor=True)
        return
    axes.set_axisbelow(True)
    axes.grid(color="0.9", linewidth=0.8)
    steps, attempts = _values(trace, "step"), _values(trace, "attempt")
    for i, step in enumerate(steps[1:][np.diff(attempts) != 0]):
        label = "restart" if i == 0 else None
        axes.axvline(step, color="0.35", linestyle=":", linewidth=1.2, label=label)
    # Beside the panel, where no line can run beneath it.
    entries = len(axes.get_legend_handles_labels()[0])
    size, columns = (10, 1) if entries <= 12 else (7, 2)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=size, ncols=columns
    )
