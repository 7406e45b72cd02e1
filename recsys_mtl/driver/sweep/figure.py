"""sweep.png: each task's AUC over the setting that varies, and each arm's weights over steps."""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from recsys_mtl.driver.sweep.choice import AVERAGE
from recsys_mtl.metrics.figure import SMOOTHED_SHARE, TASK_COLOURS, running_mean

FloatArray = npt.NDArray[np.float64]
Record = Mapping[str, Any]
"""What sweep.json holds, or a part of it; None where a number is not known."""
Settings = Mapping[str, Any]
"""Path of a setting to its value, of one arm."""

_MOST_WEIGHTS = 8
"""Arms whose weights are drawn; of more, the first and last ones by their setting."""
_MOST_COLUMNS = 4
_MOST_TICKS = 9
_LONGEST_TITLE = 42  # letters above a panel
_LOG_FROM = 50
"""Settings above 0 that differ by more than this factor, such as learning rates, stand on a
logarithmic axis."""
_AVERAGE_COLOUR = "#24292F"
_LOGS = {"eval": "data.eval", "test": "test log"}
_STYLES: dict[str, dict[str, Any]] = {
    "eval": {"linestyle": "-", "marker": "o", "markersize": 5},
    "test": {"linestyle": "--", "marker": "s", "markersize": 5, "markerfacecolor": "none"},
}
_LEVELS = (":", (0, (6, 2)), (0, (3, 1, 1, 1)), (0, (1, 1)))
"""Dashes of the level lines of arms that are not of the series, in turn."""


@dataclass(frozen=True)
class Axis:
    """The one number in which a series of arms differ."""

    setting: str
    """Its path, such as `method.alpha`."""
    values: dict[str, float]
    """Arm to value, ascending."""


def varying_number(settings: Mapping[str, Settings]) -> Axis | None:
    """The number by which most arms differ, each from all the others in nothing else.

    Of the arms uniform, gradops with alpha -1 and gradops with alpha 0, the last two differ in
    `method.alpha` alone.

    Args:
        settings: by arm.

    Returns:
        None where no two arms are so.
    """
    best: Axis | None = None
    for setting in sorted({path for own in settings.values() for path in own}):
        series: dict[str, dict[str, float]] = {}
        for arm, own in settings.items():
            value = own.get(setting)
            if isinstance(value, int | float) and not isinstance(value, bool):
                others = repr(sorted((p, repr(v)) for p, v in own.items() if p != setting))
                series.setdefault(others, {})[arm] = float(value)
        for values in series.values():
            if len(values) > max(1, len(best.values) if best else 1):
                ascending = sorted(values, key=lambda arm: values[arm])
                best = Axis(setting, {arm: values[arm] for arm in ascending})
    return best


def draw_sweep(
    record: Record, axis: Axis | None, traces: Mapping[str, Sequence[pa.Table]]
) -> bytes:
    """Draw the picture as PNG.

    Args:
        record: what sweep.json holds; at least one arm has scores.
        axis: over which AUC is drawn; None draws it arm by arm.
        traces: arm to the traces of its runs with all tasks, one per seed.
    """
    tasks = list(record["tasks"])
    arms = [arm for arm in record["arms"] if arm["eval"] is not None]
    colours = {task: TASK_COLOURS[i % len(TASK_COLOURS)] for i, task in enumerate(tasks)}
    weighed = _some([name for name in (axis.values if axis else traces) if name in traces])
    columns = min(_MOST_COLUMNS, len(tasks) + 1)
    score_rows = math.ceil((len(tasks) + 1) / columns)
    height = 4.2 if axis else max(3.0, 1.2 + 0.35 * len(arms))
    heights = [height] * score_rows + [3.2] * math.ceil(len(weighed) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(4.4 * columns, 0.6 + sum(heights)), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    for place, quantity in enumerate((*tasks, AVERAGE)):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        colour = colours.get(quantity, _AVERAGE_COLOUR)
        if axis is None:
            _draw_arms(axes, arms, quantity, colour, named=place % columns == 0)
        else:
            _draw_curve(axes, arms, quantity, colour, axis)
        _finish(axes, quantity)
    first = None
    for place, name in enumerate(weighed):
        below = grid[score_rows + place // columns, place % columns]
        axes = figure.add_subplot(below, sharey=first)
        first = first or axes
        _draw_weights(axes, traces[name], colours)
        _finish(axes, shorten(f"weights, {name}", _LONGEST_TITLE, placeholder="..."))
    entries = [*_entries_of_scores(arms, axis), *(_entries_of_tasks(colours) if weighed else ())]
    figure.legend(handles=entries, loc="outside upper left", ncols=8, frameon=False, fontsize=11)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw_curve(axes: Any, arms: Sequence[Record], quantity: str, colour: str, axis: Axis) -> None:
    """Draw AUC over the setting, and arms that are not of the series as level lines."""
    for log, style in _STYLES.items():
        of_arm = {arm["name"]: arm[log] for arm in arms if arm[log] is not None}
        drawn = _of_series(arms, log, axis)
        if drawn:
            axes.errorbar(
                [axis.values[name] for name in drawn],
                [_known(of_arm[name]["mean"][quantity]) for name in drawn],
                yerr=[_known(of_arm[name]["std"][quantity], 0.0) for name in drawn],
                color=colour,
                capsize=3,
                **style,
            )
        for name in drawn:
            place = axis.values[name], _known(of_arm[name]["mean"][quantity])
            _note_few_seeds(axes, place, of_arm[name], of_arm)
    for arm, dashes in zip(_level(arms, axis), itertools.cycle(_LEVELS), strict=False):
        auc = _known(arm["eval"]["mean"][quantity])
        axes.axhline(auc, color="0.45", linestyle=dashes, linewidth=1.2)
    values = list(axis.values.values())
    if values[0] > 0 and values[-1] > _LOG_FROM * values[0]:
        axes.set_xscale("log")
    elif len(values) <= _MOST_TICKS:
        axes.set_xticks(values)
    axes.set_xlabel(axis.setting, fontsize=11)
    axes.set_ylabel("AUC (mean ± std over seeds)", fontsize=10)


def _draw_arms(
    axes: Any, arms: Sequence[Record], quantity: str, colour: str, *, named: bool
) -> None:
    """Draw one row per arm."""
    for log, style in _STYLES.items():
        there = [row for row, arm in enumerate(arms) if arm[log] is not None]
        if there:
            axes.errorbar(
                [_known(arms[row][log]["mean"][quantity]) for row in there],
                there,
                xerr=[_known(arms[row][log]["std"][quantity], 0.0) for row in there],
                color=colour,
                capsize=3,
                **{**style, "linestyle": "none"},
            )
        of_arm = {arms[row]["name"]: arms[row][log] for row in there}
        for row in there:
            place = _known(arms[row][log]["mean"][quantity]), row
            _note_few_seeds(axes, place, arms[row][log], of_arm)
    axes.set_yticks(range(len(arms)), [arm["name"] if named else "" for arm in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("AUC (mean ± std over seeds)", fontsize=10)


def _note_few_seeds(
    axes: Any, place: tuple[float, float], found: Record, of_arm: Mapping[str, Record]
) -> None:
    """Write at an arm's point how many seeds it is the mean of, where others have more."""
    count = len(found["seeds"])
    if count < max(len(other["seeds"]) for other in of_arm.values()) and not math.isnan(sum(place)):
        text = f"{count} seed(s)"
        axes.annotate(text, place, xytext=(4, 5), textcoords="offset points", fontsize=8)


def _draw_weights(axes: Any, traces: Sequence[pa.Table], colours: Mapping[str, str]) -> None:
    """Draw the weights of one arm, in the mean over seeds, smoothed as in traces.png."""
    length = min(trace.num_rows for trace in traces)
    steps = np.array(traces[0]["step"].to_pandas(), np.float64)[:length]
    for task, colour in colours.items():
        of_seeds = [np.array(t[f"weight_{task}"].to_pandas(), np.float64)[:length] for t in traces]
        values = np.mean(of_seeds, axis=0)
        if not np.isnan(values).all():
            smooth = running_mean(values, max(1, length // SMOOTHED_SHARE))
            axes.plot(steps, smooth, color=colour, linewidth=1.8)
    axes.axhline(1.0, color="0.7", linewidth=0.8, zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("training step", fontsize=10)
    axes.set_ylabel("weight $w$", fontsize=10)


def _entries_of_scores(arms: Sequence[Record], axis: Axis | None) -> list[Line2D]:
    """The legend's lines for the two logs and for arms that are drawn as levels."""
    entries = [
        Line2D([], [], color="0.2", label=_LOGS[log], **style)
        for log, style in _STYLES.items()
        if (_of_series(arms, log, axis) if axis else any(arm[log] for arm in arms))
    ]
    levels = [] if axis is None else _level(arms, axis)
    for arm, dashes in zip(levels, itertools.cycle(_LEVELS), strict=False):
        entries.append(Line2D([], [], color="0.45", linestyle=dashes, label=arm["name"]))
    return entries


def _entries_of_tasks(colours: Mapping[str, str]) -> list[Line2D]:
    return [Line2D([], [], color=colour, label=task) for task, colour in colours.items()]


def _of_series(arms: Sequence[Record], log: str, axis: Axis) -> list[str]:
    """The arms that have a point on this log; of a choice, the chosen one's alone is left out."""
    known = {arm["name"] for arm in arms if arm[log] is not None}
    found = [name for name in axis.values if name in known]
    return found if log == "eval" or len(found) > 1 else []


def _level(arms: Sequence[Record], axis: Axis) -> list[Record]:
    return [arm for arm in arms if arm["name"] not in axis.values]


def _some(names: Sequence[str]) -> list[str]:
    """At most `_MOST_WEIGHTS` of them, evenly spread, the first and the last among them."""
    if len(names) <= _MOST_WEIGHTS:
        return list(names)
    return [names[round(i * (len(names) - 1) / (_MOST_WEIGHTS - 1))] for i in range(_MOST_WEIGHTS)]


def _known(value: float | None, otherwise: float = math.nan) -> float:
    return otherwise if value is None else value


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=12, fontweight="bold", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
