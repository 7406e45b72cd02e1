"""traces.png: task weights, losses, gradient cosines and training AUC over the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
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

# N steps of the trace

FloatArray = npt.NDArray[np.float64]

# Okabe and Ito's palette, which the colour-blind can tell apart, without its black and yellow.
TASK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Pairs get others, so that no pair looks like a task.
PAIR_COLOURS = ("#5D3A9B", "#8C564B", "#17A2B8", "#7F7F7F", "#9ACD32", "#B03060")
# Lines show a mean over about a fiftieth of the run, so that noise does not hide the course.
SMOOTHED_SHARE = 50
# The faint lines of more series than these hide each other.
MOST_FAINT_LINES = 6


def draw_traces(
    trace: pa.Table, task_names: Sequence[str], path_or_file: str | Path | IO[bytes]
) -> None:
    """Draw the four panels as a PNG of 1600 x 1000 pixels.

    Values that are not finite are left out; a panel without any says "not measured".

    Args:
        trace: from `read_trace`, at least one row, with `step`, `attempt` and, for every task,
            `weight_<task>`, `loss_<task>` and `auc_window_<task>`, and for every pair of tasks in
            the order of `task_names`, `cosine_<a>_<b>`.
        task_names: the tasks, in the run's order.
        path_or_file: where the picture is written.

    Raises:
        ValueError: the trace is empty or lacks one of these columns.
    """
    if trace.num_rows == 0:
        raise ValueError("the trace has no rows to draw; draw it after the first step")
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    figure = Figure(figsize=(16, 10), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    (weights, losses), (cosines, aucs) = figure.subplots(2, 2, sharex=True)
    colours = _colours(TASK_COLOURS, len(task_names))

    _label(weights, "Task weights", "weight $w$ of the task's gradient")
    _draw_lines(weights, trace, {task: f"weight_{task}" for task in task_names}, colours)
    _label(losses, "Training losses", "loss of the global batch (nats per row)")
    _draw_lines(losses, trace, {task: f"loss_{task}" for task in task_names}, colours)
    _use_log_scale(losses)
    _label(cosines, "Cosines between task gradients", "cosine (below 0: conflict)")
    pairs = {f"{a} · {b}": f"cosine_{a}_{b}" for a, b in combinations(task_names, 2)}
    _draw_lines(cosines, trace, pairs, _colours(PAIR_COLOURS, len(pairs)))
    cosines.axhline(0.0, color="black", linewidth=1.0, zorder=1.9)
    _label(aucs, "Training AUC over a window of steps", "area under the ROC curve")
    _draw_points(aucs, trace, {task: f"auc_window_{task}" for task in task_names}, colours)

    for axes in (weights, losses, cosines, aucs):
        _finish(axes, trace)
    figure.savefig(path_or_file, format="png")


def _draw_lines(axes: Any, trace: pa.Table, columns: dict[str, str], colours: list[Any]) -> None:
    """Every step as a faint line, and its running mean as a strong one on top of them all."""
    steps = _values(trace, "step")
    width = max(1, len(steps) // SMOOTHED_SHARE)
    # A single step leaves no line to see.
    marker = "o" if len(steps) <= SMOOTHED_SHARE else None
    for (label, column), colour in zip(columns.items(), colours, strict=True):
        values = _values(trace, column)
        if np.isnan(values).all():
            continue
        if width > 1 and len(columns) <= MOST_FAINT_LINES:
            axes.plot(steps, values, color=colour, alpha=0.2, linewidth=0.8, zorder=1.5)
        smooth = running_mean(values, width)
        axes.plot(steps, smooth, color=colour, linewidth=2.0, marker=marker, ms=4, label=label)


def _draw_points(axes: Any, trace: pa.Table, columns: dict[str, str], colours: list[Any]) -> None:
    """The steps at which the value was measured, as points on a thin line."""
    steps = _values(trace, "step")
    for (label, column), colour in zip(columns.items(), colours, strict=True):
        values = _values(trace, column)
        known = ~np.isnan(values)
        if known.any():
            points = steps[known], values[known]
            axes.plot(*points, color=colour, linewidth=1.2, marker="o", ms=4, label=label)


def running_mean(values: FloatArray, width: int) -> FloatArray:
    """The mean of the values at most width / 2 steps away, over those that are not NaN.

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
    """A column as [N] float64, with NaN for what is null or infinite."""
    if column not in trace.column_names:
        raise ValueError(
            f"the trace has no column '{column}', which the picture needs; it has: "
            f"{trace.column_names}"
        )
    values = np.array(trace[column].to_pandas(), dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _colours(palette: tuple[str, ...], count: int) -> list[Any]:
    if count <= len(palette):
        return list(palette[:count])
    return [colormaps["tab20"](i % 20) for i in range(count)]


def _label(axes: Any, title: str, quantity: str) -> None:
    axes.set_title(title, fontsize=15, fontweight="bold", loc="left")
    axes.set_ylabel(quantity, fontsize=12)
    axes.set_xlabel("training step", fontsize=12)


def _use_log_scale(axes: Any) -> None:
    """Losses of rare events lie decades below those of common ones."""
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 3.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))


def _finish(axes: Any, trace: pa.Table) -> None:
    """Grid, restarts and legend, or the words "not measured" where nothing was drawn."""
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
