"""The GradOPS paper's Figure 7: the weights w_i over training steps, by alpha.

    python -m pipelines.experiments.census_figure7 --data ../shared/data/census_income

Drawn are the weights of the first seed, as running means: one panel per task, above for alpha 1, 0
and -1, below for 3, 0 and -3. The table has the means over all steps and seeds, and of the first
and the last tenth. Written: `census_figure7.md`, `.json` and `.png` in --out.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from pipelines.experiments.shared.census_setting import census_parser, census_setting
from pipelines.experiments.shared.command import Asked, Experiment, Report, run
from pipelines.experiments.shared.figures import save
from pipelines.experiments.shared.markdown import number, table
from pipelines.experiments.shared.method_arms import gradops
from pipelines.experiments.shared.paper import CENSUS_TASKS
from recsys_mtl.metrics.figure import TASK_COLOURS, running_mean
from recsys_mtl.metrics.trace import read_trace

NAME = "census_figure7"
ROWS = ((1, 0, -1), (3, 0, -3))
"""The alphas of the picture's rows, as in the paper."""
ALPHAS = (3, 1, 0, -1, -3)
FloatArray = NDArray[np.float64]


def compare(asked: Asked) -> Report:
    """Train GradOPS with every alpha, and read the weights from the traces."""
    setting = census_setting(asked)
    found = asked.sweep(setting.run_yaml, [gradops(alpha) for alpha in ALPHAS], "sweep")
    weights = {alpha: weights_of(found, gradops(alpha).name) for alpha in ALPHAS}
    weights = {alpha: of_seeds for alpha, of_seeds in weights.items() if of_seeds}
    draw({alpha: of_seeds[0] for alpha, of_seeds in weights.items()}, asked.picture)
    means = {alpha: stretches(of_seeds) for alpha, of_seeds in weights.items()}
    rows = (
        [f"{alpha}", *(number(value, 2) for value in (*whole, *first, *last))]
        for alpha, (whole, first, last) in means.items()
    )
    columns = [f"{t}, {part}" for part in ("all", "first tenth", "last") for t in CENSUS_TASKS]
    return Report(
        f"{setting.in_words(asked.seeds)}\nMean weight over steps and seeds:\n\n"
        f"{table(['alpha', *columns], rows)}",
        {"tasks": CENSUS_TASKS, "mean_weights": {alpha: m[0] for alpha, m in means.items()}},
        [found],
    )


def weights_of(found: Mapping[str, Any], arm: str) -> list[FloatArray]:
    """Per finished seed, the weights [N, T] of all N steps."""
    names = [f"weight_{task}" for task in CENSUS_TASKS]
    traces = (
        read_trace(f"{cell['url']}/trace", names)
        for cell in found["cells"]
        if cell["arm"] == arm and cell["status"] == "finished"
    )
    return [np.stack([trace[name].to_numpy() for name in names], axis=1) for trace in traces]


def stretches(of_seeds: Sequence[FloatArray]) -> tuple[list[float], list[float], list[float]]:
    """The mean weights [T] over all steps, over the first tenth of them, and over the last."""
    tenth = max(1, len(of_seeds[0]) // 10)
    whole, first, last = (
        np.mean([weights[part].mean(axis=0) for weights in of_seeds], axis=0).tolist()
        for part in (slice(None), slice(tenth), slice(-tenth, None))
    )
    return whole, first, last


def draw(weights: Mapping[int, FloatArray], path: Path) -> None:
    """One panel per task and row of alphas, from weights [N, T] by alpha."""
    figure = Figure(figsize=(15, 8), dpi=100, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(ROWS), len(CENSUS_TASKS), sharex=True)
    for axes, alphas in zip(grid, ROWS, strict=True):
        for task, panel in enumerate(axes):
            for place, alpha in enumerate(alphas):
                if alpha in weights:
                    values = weights[alpha][:, task]
                    smooth = running_mean(values, max(1, len(values) // 50))
                    panel.plot(smooth, color=TASK_COLOURS[place], label=f"alpha {alpha}")
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(color="0.9", linewidth=0.8)
            panel.set_title(CENSUS_TASKS[task], fontweight="bold", loc="left")
            panel.set_xlabel("training step")
        axes[0].set_ylabel("weight $w$ (running mean)")
        axes[-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    title = "Census-Income: Figure 7 of the GradOPS paper, weights over steps"
    parser = census_parser(NAME, __doc__, seeds=1)
    return run(Experiment(NAME, title, compare), parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
