"""sweep.png: each task's AUC over the setting that varies, and each arm's weights over steps."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from recsys_mtl.driver.sweep.choice import AVERAGE
from recsys_mtl.metrics.figure import SMOOTHED_SHARE, TASK_COLOURS, running_mean

FloatArray = npt.NDArray[np.float64]
Settings = Mapping[str, Any]
"""Path of a setting to its value, of one arm."""

_MOST_WEIGHTS = 8
"""Arms whose weights are drawn; of more, the first and last ones by their setting."""
_MOST_COLUMNS = 4
_LOG_FROM = 50
"""Settings above 0 that differ by more than this factor, such as learning rates, stand on a
logarithmic axis."""
_AVERAGE_COLOUR = "#24292F"


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
    record: Mapping[str, Any], axis: Axis | None, traces: Mapping[str, Sequence[pa.Table]]
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
    colours[AVERAGE] = _AVERAGE_COLOUR
    weighed = _some([name for name in (axis.values if axis else traces) if name in traces])
    columns = min(_MOST_COLUMNS, len(tasks) + 1)
    score_rows = math.ceil((len(tasks) + 1) / columns)
    height = 4.2 if axis else max(3.0, 1.2 + 0.35 * len(arms))
    heights = [height] * score_rows + [3.2] * math.ceil(len(weighed) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(4.4 * columns, sum(heights)), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    for place, quantity in enumerate((*tasks, AVERAGE)):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        if axis is None:
            _draw_arms(axes, arms, quantity, colours[quantity])
        else:
            _draw_curve(axes, arms, quantity, colours[quantity], axis)
        _finish(axes, quantity)
    first = None
    for place, name in enumerate(weighed):
        below = grid[score_rows + place // columns, place % columns]
        axes = figure.add_subplot(below, sharey=first)
        first = first or axes
        _draw_weights(axes, traces[name], tasks, colours)
        _finish(axes, f"{name}: weights")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw_curve(
    axes: Any, arms: Sequence[Mapping[str, Any]], quantity: str, colour: str, axis: Axis
) -> None:
    """Draw AUC over the setting, and arms that are not of the series as level lines."""
    for log, line, label in (("eval", "-", "data.eval"), ("test", "--", "test log")):
        of_arm = {arm["name"]: arm[log] for arm in arms if arm[log] is not None}
        drawn = [name for name in axis.values if name in of_arm]
        if drawn:
            axes.errorbar(
                [axis.values[name] for name in drawn],
                [_known(of_arm[name]["mean"][quantity]) for name in drawn],
                yerr=[_known(of_arm[name]["std"][quantity], 0.0) for name in drawn],
                color=colour,
                linestyle=line,
                marker="o" if log == "eval" else "s",
                markersize=5,
                capsize=3,
                label=label,
            )
    others = [arm for arm in arms if arm["name"] not in axis.values]
    for arm, dots in zip(others, _LEVELS * len(others), strict=False):
        auc = _known(arm["eval"]["mean"][quantity])
        axes.axhline(auc, color="0.45", linestyle=dots, linewidth=1.2, label=arm["name"])
    values = list(axis.values.values())
    if values[0] > 0 and values[-1] > _LOG_FROM * values[0]:
        axes.set_xscale("log")
    axes.set_xlabel(axis.setting, fontsize=11)
    axes.set_ylabel("AUC (mean ± std over seeds)", fontsize=10)
    axes.legend(fontsize=9, frameon=False)


_LEVELS = (":", (0, (6, 2)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def _draw_arms(axes: Any, arms: Sequence[Mapping[str, Any]], quantity: str, colour: str) -> None:
    """Draw one row per arm."""
    names = [arm["name"] for arm in arms]
    for log, marker in (("eval", "o"), ("test", "s")):
        there = [i for i, arm in enumerate(arms) if arm[log] is not None]
        if there:
            axes.errorbar(
                [_known(arms[i][log]["mean"][quantity]) for i in there],
                there,
                xerr=[_known(arms[i][log]["std"][quantity], 0.0) for i in there],
                color=colour,
                linestyle="none",
                marker=marker,
                markerfacecolor=colour if log == "eval" else "none",
                capsize=3,
                label="data.eval" if log == "eval" else "test log",
            )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("AUC (mean ± std over seeds)", fontsize=10)
    axes.legend(fontsize=9, frameon=False)


def _draw_weights(
    axes: Any, traces: Sequence[pa.Table], tasks: Sequence[str], colours: Mapping[str, str]
) -> None:
    """Draw the weights of one arm, in the mean over seeds, smoothed as in traces.png."""
    length = min(trace.num_rows for trace in traces)
    steps = np.array(traces[0]["step"].to_pandas(), np.float64)[:length]
    for task in tasks:
        of_seeds = [np.array(t[f"weight_{task}"].to_pandas(), np.float64)[:length] for t in traces]
        values = np.mean(of_seeds, axis=0)
        if not np.isnan(values).all():
            smooth = running_mean(values, max(1, length // SMOOTHED_SHARE))
            axes.plot(steps, smooth, color=colours[task], linewidth=1.8, label=task)
    axes.axhline(1.0, color="0.7", linewidth=0.8, zorder=1)
    axes.set_xlabel("training step", fontsize=10)
    axes.set_ylabel("weight $w$", fontsize=10)
    axes.legend(fontsize=8, frameon=False)


def _some(names: Sequence[str]) -> list[str]:
    """At most `_MOST_WEIGHTS` of them, evenly spread, the first and the last among them."""
    if len(names) <= _MOST_WEIGHTS:
        return list(names)
    return [names[round(i * (len(names) - 1) / (_MOST_WEIGHTS - 1))] for i in range(_MOST_WEIGHTS)]


def _known(value: float | None, otherwise: float = math.nan) -> float:
    return otherwise if value is None else value


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=12, fontweight="bold", loc="left")
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
