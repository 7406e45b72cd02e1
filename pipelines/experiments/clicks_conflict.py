"""Where GradOPS pays: a grid of how far tasks pull apart and how unequal their gradients are.

    python -m pipelines.experiments.clicks_conflict --rows 300000 --seeds 3

The grid is fixed here, before anything was run, and every cell of it is published, also those
without an effect. One log is written per cell, of one world: CORRELATIONS say how alike the causes
of any two tasks are, from nearly the same (0.9) to as opposed as three tasks can be (-0.45); of
RATIOS, 25 makes wishes 25 times as rare as purchases, and their gradients as much smaller. The
bottom is smaller than the paper's, so that the grid takes hours and not days. Written:
`clicks_conflict.md`, `.json` and `.png` in --out.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.experiments.shared.clicks_setting import clicks_parser, clicks_setting
from pipelines.experiments.shared.command import Asked, Experiment, Report, run
from pipelines.experiments.shared.figures import panels, save
from pipelines.experiments.shared.markdown import auc, interval, number, table
from pipelines.experiments.shared.method_arms import PCGRAD, SINGLE_TASK, UNIFORM, gradops
from pipelines.experiments.shared.paper import CLICK_TASKS
from pipelines.experiments.shared.scores import AVERAGE, Line, lines_of, scores_of
from pipelines.synthetic_tasks import TaskRelation

NAME = "clicks_conflict"
CORRELATIONS = (0.9, 0.4, 0.0, -0.45)
RATIOS = (1, 5, 25)
MOST_FREQUENT = 0.2
"""Share of positives of purchase, everywhere."""
HIDDEN_SIZES = (256, 128, 64)
ARMS = (UNIFORM, SINGLE_TASK, PCGRAD, gradops(0), gradops(-1), gradops(-3))
COMPARED = tuple(arm for arm in ARMS if arm != UNIFORM)
CONFLICTS_OF = gradops(0)
"""The arm whose share of steps with a conflict is shown."""


@dataclass(frozen=True)
class GridCell:
    """What was found on one log."""

    correlation: float
    ratio: int
    conflicting: float
    """Share of CONFLICTS_OF's steps in which two tasks' gradients had a negative product."""
    lines: dict[str, Line]
    """By arm."""


def relation_of(correlation: float, ratio: int) -> TaskRelation:
    """The log of a cell: cart is between purchase and wish, in equal proportions."""
    rates = (MOST_FREQUENT, MOST_FREQUENT / math.sqrt(ratio), MOST_FREQUENT / ratio)
    return TaskRelation(correlation, tuple(round(rate, 6) for rate in rates))


def compare(asked: Asked) -> Report:
    """Train every arm on the log of every cell."""
    cells, sweeps = [], []
    for correlation in CORRELATIONS:
        for ratio in RATIOS:
            name = f"correlation_{correlation:g}_ratio_{ratio}"
            relation = relation_of(correlation, ratio)
            setting = clicks_setting(
                asked, asked.out / name, relation=relation, hidden_sizes=HIDDEN_SIZES
            )
            found = asked.sweep(setting.run_yaml, ARMS, f"{name}/sweep", test=setting.test)
            sweeps.append(found)
            cells.append(_cell(correlation, ratio, found))
    draw(cells, asked.picture)
    return Report(
        f"One log per line, each of {setting.in_words(asked.seeds)}\n"
        f"Difference of the average AUC from {UNIFORM.name}'s, with 95 % intervals:\n\n"
        f"{_table(cells)}\n{_largest(cells)}\n",
        {"grid": [asdict(cell) for cell in cells]},
        sweeps,
    )


def _cell(correlation: float, ratio: int, found: Mapping[str, Any]) -> GridCell:
    lines = lines_of(
        scores_of(found, "test"), CLICK_TASKS, reference=UNIFORM.name, baseline=SINGLE_TASK.name
    )
    counted = [
        cell
        for cell in found["cells"]
        if cell["arm"] == CONFLICTS_OF.name and cell["status"] == "finished"
    ]
    compared = sum(cell["compared_steps"] for cell in counted)
    conflicting = sum(cell["conflicting_steps"] for cell in counted)
    share = conflicting / compared if compared else math.nan
    return GridCell(correlation, ratio, share, {line.arm: line for line in lines})


def _table(cells: Sequence[GridCell]) -> str:
    columns = ("correlation", "ratio", "conflicts", f"AUC of {UNIFORM.name}")
    rows = (
        [
            f"{cell.correlation:g}",
            f"{cell.ratio}",
            f"{number(100 * cell.conflicting, 0)} %",
            " ".join(auc(cell.lines[UNIFORM.name].means[task]) for task in CLICK_TASKS),
            *(interval(cell.lines[arm.name].differences[AVERAGE]) for arm in COMPARED),
        ]
        for cell in cells
    )
    return table([*columns, *(arm.name for arm in COMPARED)], rows)


def _largest(cells: Sequence[GridCell]) -> str:
    """The cell and alpha with the largest gain of GradOPS, in words."""
    gains = [
        (line.differences[AVERAGE], arm, cell)
        for cell in cells
        for arm, line in cell.lines.items()
        if arm.startswith("gradops") and not math.isnan(line.differences[AVERAGE].mean)
    ]
    if not gains:
        return "No cell has both GradOPS and uniform."
    gain, arm, cell = max(gains, key=lambda found: found[0].mean)
    return (
        f"GradOPS gains most at correlation {cell.correlation:g} and ratio {cell.ratio}, with "
        f"{arm}: {interval(gain)}. It is the largest of {len(gains)} differences, so chance has "
        "made it larger than it would be on another log of the kind."
    )


def draw(cells: Sequence[GridCell], path: Path) -> None:
    """One panel per arm: the gain of the average AUC in every cell of the grid, times 1,000."""
    gains = {
        arm.name: [
            [
                1000 * cell.lines[arm.name].differences[AVERAGE].mean
                for cell in cells
                if cell.ratio == r
            ]
            for r in RATIOS
        ]
        for arm in COMPARED
    }
    known = [abs(g) for rows in gains.values() for row in rows for g in row if not math.isnan(g)]
    bound = 2 * max(known, default=1.0)  # so that no cell is too dark for its number
    figure, axes = panels(len(COMPARED), width=4, height=3.6, share_y=True)
    for panel, (arm, rows) in zip(axes, gains.items(), strict=True):
        panel.grid(visible=False)
        panel.imshow(rows, cmap="RdBu", vmin=-bound, vmax=bound, aspect="auto")
        for y, row in enumerate(rows):
            for x, gain in enumerate(row):
                panel.text(x, y, number(gain, 1), ha="center", va="center")
        panel.set_xticks(range(len(CORRELATIONS)), [f"{c:g}" for c in CORRELATIONS])
        panel.set_xlabel("correlation of the tasks' causes")
        panel.set_title(arm, fontweight="bold", loc="left")
    axes[0].set_yticks(range(len(RATIOS)), [str(ratio) for ratio in RATIOS])
    axes[0].set_ylabel("purchases per wish")
    figure.suptitle(f"1000 × (average AUC - that of {UNIFORM.name})", fontsize=11)
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = clicks_parser(NAME, __doc__, seeds=3, rows=300_000)
    title = "Synthetic click logs: how far tasks pull apart, and how unequal their gradients are"
    return run(Experiment(NAME, title, compare), parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
