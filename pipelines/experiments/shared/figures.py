"""Pictures of experiments: where each method stands beside another one, and curves over a knob."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pipelines.experiments.shared.paper import Published
from pipelines.experiments.shared.scores import AVERAGE, Contrast, Line
from recsys_mtl.metrics.comparison import PairedDifference
from recsys_mtl.metrics.figure import STEP_COLOUR, TASK_COLOURS


def panels(count: int, *, width: float, height: float, share_y: bool) -> tuple[Figure, list[Any]]:
    """A figure and its panels, side by side.

    Args:
        width, height: of one panel, in hundreds of pixels.
        share_y: whether one vertical axis serves all panels.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width * count, height), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False, sharey=share_y)[0].tolist()
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_axisbelow(True)
        panel.grid(color="0.9", linewidth=0.8)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG."""
    figure.savefig(path, format="png")


def draw_differences(
    lines: Sequence[Line],
    tasks: Sequence[str],
    path: Path,
    *,
    reference: str,
    published: Mapping[str, Published] | None = None,
) -> None:
    """Draw each arm's difference from the reference, per task and of the average.

    A dot with its 95 % interval is of this run, a hollow diamond the paper's.

    Args:
        lines: one per arm.
        tasks: names, in the order of the published scores.
        published: the paper's lines by arm.
    """
    drawn = [line for line in lines if line.differences][::-1]
    figure, axes = panels(len(tasks) + 1, width=4, height=1.6 + 0.36 * len(drawn), share_y=True)
    for place, (panel, task) in enumerate(zip(axes, (*tasks, AVERAGE), strict=True)):
        panel.axvline(0.0, color="black", linewidth=1)
        colour = STEP_COLOUR if task == AVERAGE else TASK_COLOURS[place % len(TASK_COLOURS)]
        for height, line in enumerate(drawn):
            draw_interval(panel, line.differences[task], height, colour)
            gain = _published_gain(line.arm, reference, place, published)
            if gain is not None:
                panel.plot(1000 * gain, height, marker="D", color=colour, fillstyle="none", ls="")
        panel.set_title(task, fontweight="bold", loc="left")
        panel.set_xlabel(f"1000 × (AUC - AUC of {reference})")
    name_rows(axes, [line.arm for line in drawn])
    known = "" if published is None else "; hollow: the paper's"
    figure.suptitle(f"Dots: this run, with 95 % intervals over paired seeds{known}", fontsize=11)
    save(figure, path)


def name_rows(axes: Sequence[Any], names: Sequence[str]) -> None:
    """Name the heights 0, 1, ... that panels share."""
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(-0.6, len(names) - 0.4)


def draw_interval(panel: Any, found: PairedDifference, height: float, colour: str) -> None:
    """One difference as a dot with its interval, times 1,000; nothing where it is not known."""
    if math.isnan(found.mean):
        return
    if not math.isnan(found.lower):
        ends = (1000 * found.lower, 1000 * found.upper)
        panel.plot(ends, (height, height), color=colour, linewidth=1.5, alpha=0.6)
    panel.plot(1000 * found.mean, height, marker="o", color=colour, ls="")


def _published_gain(
    arm: str, reference: str, place: int, published: Mapping[str, Published] | None
) -> float | None:
    """The paper's difference in the task at `place`, or of the average behind the last task."""
    if published is None or arm not in published or reference not in published:
        return None
    ours, theirs = ((*published[a].scores, published[a].average) for a in (arm, reference))
    return ours[place] - theirs[place]


def draw_contrasts(contrasts: Sequence[Contrast], tasks: Sequence[str], path: Path) -> None:
    """Draw each contrast, of the average that was decided on and of every task."""
    drawn = contrasts[::-1]
    figure, axes = panels(len(tasks) + 1, width=4, height=1.6 + 0.4 * len(drawn), share_y=True)
    for place, (panel, task) in enumerate(zip(axes, (AVERAGE, *tasks), strict=True)):
        panel.axvline(0.0, color="black", linewidth=1)
        colour = STEP_COLOUR if task == AVERAGE else TASK_COLOURS[(place - 1) % len(TASK_COLOURS)]
        for height, contrast in enumerate(drawn):
            found = contrast.difference if task == AVERAGE else contrast.by_task[task]
            draw_interval(panel, found, height, colour)
        panel.set_title(task, fontweight="bold", loc="left")
        panel.set_xlabel("1000 × difference of AUC (95 %)")
    name_rows(axes, [f"{contrast.arm} minus {contrast.other}" for contrast in drawn])
    save(figure, path)
