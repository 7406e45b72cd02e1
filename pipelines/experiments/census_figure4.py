"""The GradOPS paper's Figure 4: can fixed weights do what GradOPS(-3) does?

    python -m pipelines.experiments.census_figure4 --data ../shared/data/census_income

One hundred static weightings of GradOPS's own deconflicted gradients (its paper's GradOPS-static),
each summing to 3, beside GradOPS(-3), whose weights change at every step. `--weigh losses` takes
the same hundred as weights of the plain losses instead, which is what one would try without
GradOPS. Drawn is the average test AUC over the distance of the weights from the mean weights of
GradOPS(-3). Written: `census_figure4.md`, `.json` and `.png` in --out.

The grid: ten shares for income, 5, 15, ... 95 % of 3, and of what is left ten shares for marital.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from pipelines.census_archive import LABELS
from pipelines.experiments.shared.census_setting import census_parser, census_setting
from pipelines.experiments.shared.command import Asked, Experiment, Report, run
from pipelines.experiments.shared.figures import panels, save
from pipelines.experiments.shared.markdown import auc, number, table
from pipelines.experiments.shared.method_arms import gradops, loss_weights
from pipelines.experiments.shared.paper import CENSUS_TASKS
from pipelines.experiments.shared.scores import AVERAGE, Scores, score, scores_of
from recsys_mtl.driver.sweep import Arm
from recsys_mtl.metrics.figure import STEP_COLOUR, TASK_COLOURS

NAME = "census_figure4"
DYNAMIC = gradops(-3)
STEPS = 10
Weights = tuple[float, ...]
"""[T], in the order of CENSUS_TASKS."""


def weightings() -> list[Weights]:
    """The grid: 100 weightings that sum to 3."""
    shares = [(step + 0.5) / STEPS for step in range(STEPS)]
    return [
        tuple(round(len(CENSUS_TASKS) * share, 6) for share in (a, (1 - a) * b, (1 - a) * (1 - b)))
        for a in shares
        for b in shares
    ]


def arm_of(weights: Weights, weigh: Literal["projected", "losses"]) -> Arm:
    """The arm of one weighting."""
    of_task = dict(zip(CENSUS_TASKS, weights, strict=True))
    name = "static_" + "_".join(f"{weight:.4f}" for weight in weights)
    if weigh == "losses":
        return Arm(name, loss_weights(of_task, LABELS))
    listed = ", ".join(f"{task}: {weight}" for task, weight in of_task.items())
    return Arm(name, (f"method={{kind: gradops_static, weights: {{{listed}}}}}",))


@dataclass(frozen=True)
class Point:
    """One weighting in the picture."""

    weights: Weights
    distance: float
    """From the mean weights of GradOPS(-3)."""
    average: float
    """AUC, the mean over tasks and seeds."""


def compare(asked: Asked) -> Report:
    """Train all weightings, and judge each once on the test rows."""
    setting, weigh = census_setting(asked), asked.options.weigh
    arms = {arm_of(weights, weigh).name: weights for weights in weightings()}
    grid = [arm_of(weights, weigh) for weights in arms.values()]
    found = asked.sweep(setting.run_yaml, [DYNAMIC, *grid], "sweep", test=setting.test)
    scores = scores_of(found, "test")
    ours, weights_of_ours = _average(scores, DYNAMIC.name), mean_weights(found, DYNAMIC.name)
    points = [
        Point(weights, math.dist(weights, weights_of_ours), _average(scores, name))
        for name, weights in arms.items()
        if scores[name]
    ]
    points.sort(key=lambda point: -point.average)
    draw(points, ours, asked.picture)
    above = sum(point.average > ours for point in points)
    words = (
        f"{setting.in_words(asked.seeds)}Weights of the "
        f"{'losses' if weigh == 'losses' else 'deconflicted gradients'}. {DYNAMIC.name}: average "
        f"{auc(ours)}, mean weights {_listed(weights_of_ours)}. Of {len(points)} static weightings "
        f"{above} have a higher average (the paper: none of 100). The ten best:\n"
    )
    rows = ([_listed(p.weights), auc(p.average), number(p.distance, 2)] for p in points[:10])
    markdown = table([f"weights of {', '.join(CENSUS_TASKS)}", AVERAGE, "distance"], rows)
    content = {
        "weigh": weigh,
        "gradops": {"average": ours, "mean_weights": weights_of_ours},
        "static": [vars(point) for point in points],
    }
    return Report(f"{words}\n{markdown}", content, [found])


def mean_weights(found: Mapping[str, Any], arm: str) -> Weights:
    """The weights of an arm, in the mean over its steps and seeds; NaN where none is finished."""
    cells = [c for c in found["cells"] if c["arm"] == arm and c["status"] == "finished"]
    return tuple(
        mean(cell["mean_weights"][task] for cell in cells) if cells else math.nan
        for task in CENSUS_TASKS
    )


def draw(points: Sequence[Point], ours: float, path: Path) -> None:
    """Average AUC over distance; the line is GradOPS(-3)."""
    figure, (panel,) = panels(1, width=9, height=5, share_y=False)
    panel.axhline(ours, color=STEP_COLOUR, linewidth=1.2, label=DYNAMIC.name)
    panel.scatter(
        [point.distance for point in points],
        [point.average for point in points],
        color=TASK_COLOURS[0],
        label="static weights",
    )
    panel.set_xlabel(f"distance of the weights from the mean weights of {DYNAMIC.name}")
    panel.set_ylabel("average test AUC")
    panel.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(figure, path)


def _average(scores: Scores, arm: str) -> float:
    of_arm = scores[arm].values()
    return mean(score(of_seed, AVERAGE) for of_seed in of_arm) if of_arm else math.nan


def _listed(weights: Weights) -> str:
    return ", ".join(f"{weight:.2f}" for weight in weights)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = census_parser(NAME, __doc__, seeds=1)
    parser.add_argument(
        "--weigh",
        choices=("projected", "losses"),
        default="projected",
        help="what the static weights multiply (%(default)s)",
    )
    title = "Census-Income: Figure 4 of the GradOPS paper, static weights"
    return run(Experiment(NAME, title, compare), parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
