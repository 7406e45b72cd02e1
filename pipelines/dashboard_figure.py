"""dashboard.png: the panels of the dashboard, laid out and drawn as Grafana would."""

# N points of time, S series of a panel

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import Locator, LogLocator, MaxNLocator

from pipelines.dashboard_panels import Panel
from pipelines.dashboard_units import scale, spelled

FloatArray = npt.NDArray[np.float64]

# All in inches: a column and a unit of height of the grid, the line above it, and between panels.
COLUMN, UNIT, HEADER, GAP = 0.8, 0.4, 0.7, 0.06
RIGHT, TOP, BOTTOM = 0.35, 0.45, 0.38
"""From a panel's edges to its axes; the legend is added at the bottom, labels at the left."""
LETTER, LEGEND_LINE = 0.085, 0.21
"""Inches of a letter's width and a line's height at the legend's size."""
# Okabe and Ito's palette, which the colour-blind can tell apart, without its black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F")
INK, FAINT = "#24292F", "#D0D7DE"
MOST_MARKED_POINTS = 40
"""A line of more points shows none of them: Grafana does so too."""


@dataclass(frozen=True)
class Series:
    """One answer to one query."""

    name: str
    values: FloatArray
    """[N]; NaN where there is none."""


def draw_dashboard(
    title: str,
    panels: Sequence[Panel],
    answers: Mapping[str, Sequence[Series]],
    times: FloatArray,
    path: Path,
) -> None:
    """Draw the panels as a PNG of 1,920 pixels' width.

    Args:
        title: stands above all.
        panels: of the dashboard, headings included.
        answers: the series of each panel, by `place`.
        times: [N] Unix seconds, evenly spaced.
        path: where the picture is written.
    """
    units = max(panel.y + panel.height for panel in panels)
    figure = Figure(figsize=(24 * COLUMN, HEADER + units * UNIT), dpi=100, facecolor="#F6F8FA")
    FigureCanvasAgg(figure)
    ends = [datetime.fromtimestamp(t, tz=UTC) for t in (times[0], times[-1])]
    when = f"{ends[0]:%Y-%m-%d %H:%M:%S} to {ends[1]:%Y-%m-%d %H:%M:%S} UTC"
    canvas = _Canvas(figure)
    canvas.text(0.15, canvas.height - HEADER / 2, title, size=17, weight="bold")
    canvas.text(24 * COLUMN - 0.15, canvas.height - HEADER / 2, when, size=12, ha="right")
    for panel in panels:
        everything = answers.get(place(panel), ())
        series = [s for s in everything if np.isfinite(s.values).any()]
        if panel.kind == "row":
            _draw_heading(canvas, panel)
        elif panel.kind == "stat":
            _draw_stat(canvas, panel, everything)
        elif panel.kind == "state-timeline":
            _draw_timeline(canvas, panel, series, times)
        elif panel.kind == "timeseries":
            _draw_timeseries(canvas, panel, series, times)
        else:
            raise ValueError(f"panel {panel.title!r} is a {panel.kind}, which is not drawn yet")
    figure.savefig(path, format="png")


def place(panel: Panel) -> str:
    """Names a panel: two may have the same title, none the same place."""
    return f"{panel.x},{panel.y}"


class _Canvas:
    """A figure measured in inches from its lower left corner."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.width, self.height = figure.get_size_inches()

    def text(self, x: float, y: float, text: str, *, size: float, **style: Any) -> None:
        style = {"ha": "left", "va": "center", "color": INK} | style
        self.figure.text(x / self.width, y / self.height, text, fontsize=size, **style)

    def box(self, panel: Panel) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of a panel."""
        top = self.height - HEADER - panel.y * UNIT - GAP
        left = panel.x * COLUMN + GAP
        bottom = top - panel.height * UNIT + 2 * GAP
        return left, bottom, left + panel.width * COLUMN - 2 * GAP, top

    def frame(self, panel: Panel, colour: str = "white") -> tuple[float, float, float, float]:
        """Draws a panel's background and title; returns its `box`."""
        left, bottom, right, top = self.box(panel)
        self.figure.add_artist(
            Rectangle(
                (left / self.width, bottom / self.height),
                (right - left) / self.width,
                (top - bottom) / self.height,
                transform=self.figure.transFigure,
                facecolor=colour,
                edgecolor=FAINT,
                zorder=-1,
            )
        )
        self.text(
            left + 0.12,
            top - 0.2,
            panel.title,
            size=11.5,
            weight="bold",
            color=INK if colour == "white" else "white",
        )
        return left, bottom, right, top

    def axes(self, left: float, bottom: float, right: float, top: float) -> Any:
        size = (right - left) / self.width, (top - bottom) / self.height
        return self.figure.add_axes((left / self.width, bottom / self.height, *size))


def _draw_heading(canvas: _Canvas, panel: Panel) -> None:
    left, bottom, _, top = canvas.box(panel)
    canvas.text(left + 0.08, (bottom + top) / 2 - 0.02, panel.title, size=14, weight="bold")


def _draw_stat(canvas: _Canvas, panel: Panel, series: Sequence[Series]) -> None:
    """The last value of each series, large."""
    lines, colour = [], INK
    for s in series:
        last = _last(s)
        text, colour = _shown(panel, last)
        lines.append(
            {"name": s.name, "value": text, "value_and_name": f"{s.name}  {text}"}[panel.text_mode]
        )
    fills = panel.colour_mode == "background" and bool(lines)
    left, bottom, right, top = canvas.frame(panel, colour if fills else "white")
    lines = lines or ["No data"]
    room = (right - left - 0.3) * 72 / (0.62 * max(map(len, lines)))
    size = min(26.0 if len(lines) == 1 else 19.0, room)
    ink = {"background": "white", "value": colour, "none": INK}[panel.colour_mode]
    ink = ink if series else FAINT
    for i, line in enumerate(lines):
        share = (i + 1) / (len(lines) + 1)
        y = top - 0.32 - share * (top - 0.32 - bottom - 0.1)
        canvas.text((left + right) / 2, y, line, size=size, ha="center", color=ink)


def _draw_timeline(
    canvas: _Canvas, panel: Panel, series: Sequence[Series], times: FloatArray
) -> None:
    """A band a series, coloured by value."""
    left, bottom, right, top = canvas.frame(panel)
    series = sorted(series, key=lambda s: s.name)
    names = [s.name for s in series]
    handles = [Patch(color=colour, label=text) for text, colour in _key(panel, series)]
    lines = _draw_legend(canvas, panel, handles)
    widest = max((len(name) for name in names), default=0)
    axes = canvas.axes(
        left + max(0.35, 0.25 + widest * LETTER),
        bottom + BOTTOM + lines * LEGEND_LINE,
        right - RIGHT,
        top - TOP,
    )
    if not series:
        _say_no_data(axes)
        return
    clear = (0.0, 0.0, 0.0, 0.0)
    colours = np.array(
        [[to_rgba(_shown(panel, v)[1]) if v == v else clear for v in s.values] for s in series]
    )
    half = _days(times[1] - times[0]) / 2 if len(times) > 1 else 1e-5
    extent = (_days(times[0]) - half, _days(times[-1]) + half, len(series), 0)
    axes.imshow(colours, aspect="auto", interpolation="nearest", extent=extent)
    axes.set_yticks(np.arange(len(series)) + 0.5, names, fontsize=9.5)
    for row in range(1, len(series)):
        axes.axhline(row, color="white", linewidth=3)
    axes.tick_params(axis="y", length=0)
    _finish_time_axis(axes, panel, times)


def _draw_timeseries(
    canvas: _Canvas, panel: Panel, series: Sequence[Series], times: FloatArray
) -> None:
    left, bottom, right, top = canvas.frame(panel)
    series = sorted(series, key=lambda s: s.name)
    handles = [
        Patch(color=colour, label=f"{s.name}  {spelled(_last(s), panel.unit, panel.decimals)}")
        for s, colour in zip(series, _colours(len(series)), strict=True)
    ]
    lines = _draw_legend(canvas, panel, handles)
    axes = canvas.axes(left, bottom + BOTTOM + lines * LEGEND_LINE, right - RIGHT, top - TOP)
    if not series:
        _say_no_data(axes)
        return
    _draw_values(axes, panel, series, times)
    labels = _finish_value_axis(axes, panel)
    _finish_time_axis(axes, panel, times)
    # Room for the widest label, which is known only now.
    share = (0.3 + max(map(len, labels), default=0) * LETTER) / canvas.width
    box = axes.get_position()
    axes.set_position((box.x0 + share, box.y0, box.width - share, box.height))


def _draw_values(axes: Any, panel: Panel, series: Sequence[Series], times: FloatArray) -> None:
    days, colours = _days(times), _colours(len(series))
    if panel.stacked:
        values = [np.nan_to_num(s.values) for s in series]
        axes.stackplot(days, *values, colors=colours, alpha=0.75)
        return
    for s, colour in zip(series, colours, strict=True):
        if panel.bars:
            width = 0.9 * (days[1] - days[0]) if len(days) > 1 else 1e-5
            axes.bar(days, np.nan_to_num(s.values), width=width, color=colour)
            continue
        marker = "o" if np.isfinite(s.values).sum() <= MOST_MARKED_POINTS else None
        axes.plot(days, s.values, color=colour, linewidth=1.8, marker=marker, ms=3.5)


def _finish_value_axis(axes: Any, panel: Panel) -> list[str]:
    """Limits, ticks and thresholds; returns the ticks' labels."""
    if panel.log_scale:
        axes.set_yscale("log")
    low, high = axes.get_ylim()
    if panel.minimum is not None:
        low = panel.minimum
        high = low + 1.05 * (axes.dataLim.y1 - low) or 1.0
    if panel.maximum is not None:
        high = panel.maximum + 0.03 * (panel.maximum - low)
    size, unit = scale(high, panel.unit)
    if panel.log_scale:
        # Between two decades there may be no power of ten to write beside the axis.
        locator: Locator = LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,))
    else:
        locator = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
    ticks = [t for t in locator.tick_values(low / size, high / size) if low <= t * size <= high]
    labels = [f"{tick:.6g}{unit}" for tick in ticks]
    axes.set_yticks([tick * size for tick in ticks], labels, fontsize=9)
    axes.set_yticks([], minor=True)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for bound, colour in panel.thresholds[1:]:
        if panel.shows_thresholds and low <= bound <= high:
            axes.axhline(bound, color=colour, linestyle="--", linewidth=1.2, zorder=1.9)
    axes.set_ylim(low, high)
    return labels


def _finish_time_axis(axes: Any, panel: Panel, times: FloatArray) -> None:
    seconds = times[-1] - times[0]
    axes.set_xlim(_days(times[0]), _days(times[-1]) + (1e-5 if len(times) == 1 else 0))
    ticks = max(3, int(panel.width * COLUMN / 0.95))
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=ticks, tz=UTC))
    pattern = "%H:%M:%S" if seconds < 1200 else "%H:%M" if seconds < 2 * 86400 else "%d %b"
    axes.xaxis.set_major_formatter(DateFormatter(pattern, tz=UTC))
    axes.tick_params(axis="x", labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.6")


def _draw_legend(canvas: _Canvas, panel: Panel, handles: Sequence[Patch]) -> int:
    """Writes the legend along the panel's bottom; returns its number of lines."""
    if not handles:
        return 0
    left, bottom, right, _ = canvas.box(panel)
    widest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, int((right - left - 0.2) / (widest * LETTER + 0.45)))
    columns = min(columns, len(handles))
    canvas.figure.legend(
        handles=list(handles),
        loc="lower left",
        bbox_to_anchor=((left + 0.08) / canvas.width, (bottom + 0.04) / canvas.height),
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
        borderpad=0,
        handlelength=1.2,
        handleheight=0.6,
        columnspacing=1.4,
        labelspacing=0.35,
    )
    return -(-len(handles) // columns)


def _key(panel: Panel, series: Sequence[Series]) -> list[tuple[str, str]]:
    """What the colours of a timeline mean: the states that occur, or the bounds."""
    if panel.mappings:
        seen = {v for s in series for v in s.values.tolist()}
        return [shown for value, shown in panel.mappings.items() if value in seen]
    first, *others = panel.thresholds
    below = f"< {others[0][0]:g}" if others else "any value"
    return [(below, first[1]), *((f"{bound:g} +", colour) for bound, colour in others)]


def _shown(panel: Panel, value: float) -> tuple[str, str]:
    """A value's text and colour; NaN has the lowest bound's."""
    if value in panel.mappings:
        return panel.mappings[value]
    colour = next((c for b, c in reversed(panel.thresholds) if value >= b), panel.thresholds[0][1])
    return spelled(value, panel.unit, panel.decimals), colour


def _last(series: Series) -> float:
    known = series.values[~np.isnan(series.values)]
    return float(known[-1]) if len(known) else math.nan


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _say_no_data(axes: Any) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", color="0.6", fontsize=14)


def _days(seconds: Any) -> Any:
    """Unix seconds as matplotlib counts time."""
    return seconds / 86400
