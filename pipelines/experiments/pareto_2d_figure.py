"""trajectories.png: the paths of every method on the contours of L1 + L2."""

# N points of a path, M methods, S starts; a point is (t1, t2)

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from pipelines.experiments.pareto_2d_landscape import losses, pareto_set

COLUMNS = 3
T1_LIMITS, T2_LIMITS = (-1.15, 1.15), (-1.1, 1.1)
# Okabe and Ito's palette, which the colour-blind can tell apart, on grey contours.
START_COLOURS = ("#0072B2", "#D55E00", "#009E73")
# The darkest third of the greys is left to nothing: lines would drown in it.
GREYS = LinearSegmentedColormap.from_list("light_greys", ["0.42", "1.0"])
LEVELS = 24


def draw_trajectories(paths: Tensor, titles: Sequence[str], path: Path) -> None:
    """Draw one panel a method as a PNG of 1500 pixels' width.

    Args:
        paths: [N, M, S, 2], from the starts to the last points.
        titles: of the M panels.
        path: where the picture is written.
    """
    rows = -(-len(titles) // COLUMNS)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(15, 4.4 * rows + 0.7), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flat
    landscape, curve = _landscape(), pareto_set(701)
    for m, title in enumerate(titles):
        axes = next(panels)
        contours = axes.contourf(*landscape, levels=LEVELS, cmap=GREYS)
        axes.plot(*curve.T.numpy(), color="#E69F00", linewidth=6, label="Pareto set")
        _draw_paths(axes, paths[:, m])
        axes.set_title(title, fontsize=12, fontweight="bold", loc="left")
        axes.set(xlim=T1_LIMITS, ylim=T2_LIMITS, xlabel="$t_1$", ylabel="$t_2$", aspect="equal")
    for unused in panels:
        unused.set_axis_off()
    figure.colorbar(contours, ax=figure.axes, label="$L_1 + L_2$", shrink=0.6, pad=0.02)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=12)
    figure.savefig(path, format="png")


def _landscape() -> tuple[Any, Any, Any]:
    """t1 [461], t2 [441] and L1 + L2 [441, 461], as arrays."""
    t1 = torch.linspace(*T1_LIMITS, 461, dtype=torch.float64)
    t2 = torch.linspace(*T2_LIMITS, 441, dtype=torch.float64)
    total = losses(torch.cartesian_prod(t1, t2)).sum(dim=-1).reshape(len(t1), len(t2))
    return t1.numpy(), t2.numpy(), total.T.numpy()


def _draw_paths(axes: Any, paths: Tensor) -> None:
    """Paths [N, S, 2] of one method: a ring where each starts, a star where it ends.

    The star is smaller than the ring, so that both show where a run hardly moved.
    """
    ring = {"marker": "o", "ms": 15, "mew": 2.5, "mfc": "none", "linestyle": "none"}
    star = {"marker": "*", "ms": 14, "mec": "black", "mew": 0.6, "linestyle": "none"}
    for s, colour in zip(range(paths.shape[1]), START_COLOURS, strict=True):
        t1, t2 = paths[:, s].T.numpy()
        axes.plot(t1, t2, color=colour, linewidth=2, label=f"from ({t1[0]:g}, {t2[0]:g})")
        axes.plot(t1[0], t2[0], mec=colour, zorder=3, **ring)
        axes.plot(t1[-1], t2[-1], color=colour, zorder=4, **star)
    axes.plot([], [], mec="0.3", label="start", **ring)
    axes.plot([], [], color="0.3", label="end", **star)
