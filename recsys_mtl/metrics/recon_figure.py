"""recon.png: in which layers and tables the tasks of a search conflicted, as bars."""

import math
from collections.abc import Mapping
from typing import IO, Any, Protocol

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

_COLOURS = {"layer": "#0072B2", "table": "#E69F00"}  # Okabe and Ito's
_MOST_BARS = 30  # more cannot be read


class Counted(Protocol):
    """The pairs of tasks of one layer or table, summed over the steps of a search."""

    @property
    def conflicting_pairs(self) -> int:
        """Those whose cosine was below the threshold."""

    @property
    def share(self) -> float:
        """Their share of the pairs that could have conflicted; NaN where there were none."""


def draw_ranking(
    layers: Mapping[str, Counted],
    tables: Mapping[str, Counted],
    threshold: float,
    file: IO[bytes],
) -> None:
    """Draw a bar per layer and, beside them, a bar per table, as a PNG.

    Args:
        layers: by name, in the order in which they are drawn from the top.
        tables: the same, by the feature that owns the table; the first 30 are drawn.
        threshold: the cosine below which a pair conflicts.
        file: where the picture is written.
    """
    panels = {what: counted for what, counted in (("layer", layers), ("table", tables)) if counted}
    most = max((len(counted) for counted in panels.values()), default=0)
    figure = Figure(
        figsize=(8 * max(1, len(panels)), 2 + 0.3 * min(most, _MOST_BARS)),
        dpi=100,
        layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15),
    )
    FigureCanvasAgg(figure)
    for place, (what, counted) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        _draw_bars(axes, what, counted)
        axes.set_ylim(min(most, _MOST_BARS) - 0.5, -0.5)  # bars of one width, from the top
        axes.set_xlabel(f"pairs of tasks with a cosine below {threshold:g}")
    figure.savefig(file, format="png")


def _draw_bars(axes: Any, what: str, counted: Mapping[str, Counted]) -> None:
    """One bar per entry: its share is the length, its number of pairs stands beside."""
    names = [*counted][:_MOST_BARS]
    shares = [0.0 if math.isnan(counted[name].share) else counted[name].share for name in names]
    bars = axes.barh(range(len(names)), shares, color=_COLOURS[what])
    axes.bar_label(bars, [f"{counted[name].conflicting_pairs:,}" for name in names], padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0.0, 1.12 * max(shares, default=0.0) or 1.0)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    axes.spines[["top", "right"]].set_visible(False)
    left_out = f" (the first {_MOST_BARS} of {len(counted)})" if len(counted) > _MOST_BARS else ""
    title = f"Conflicts per {what}{left_out}"
    axes.set_title(title, fontsize=13, fontweight="bold", loc="left")
