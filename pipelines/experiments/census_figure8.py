"""The GradOPS paper's Figure 8: what alpha gains over uniform, on training and on test rows.

    python -m pipelines.experiments.census_figure8 --data ../shared/data/census_income

GradOPS with alpha from -10 to 10 in steps of 2 (the paper: of 0.5), and uniform. Both scores are of
the epoch with the best average on the validation rows; that on the training rows is what `evaluate`
finds there, without dropout. Written: `census_figure8.md`, `.json` and `.png` in --out.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.experiments.shared.census_setting import census_parser, census_setting
from pipelines.experiments.shared.command import Asked, Experiment, Report, run
from pipelines.experiments.shared.figures import panels, save
from pipelines.experiments.shared.markdown import interval, table
from pipelines.experiments.shared.method_arms import UNIFORM, gradops
from pipelines.experiments.shared.paper import CENSUS_TASKS
from pipelines.experiments.shared.scores import AVERAGE, Scores, difference, scores_of
from recsys_mtl.driver.evaluate import evaluate
from recsys_mtl.metrics.comparison import PairedDifference
from recsys_mtl.metrics.figure import STEP_COLOUR, TASK_COLOURS

NAME = "census_figure8"
ALPHAS = tuple(range(-10, 11, 2))
TASKS = (*CENSUS_TASKS, AVERAGE)
COLOURS = (*TASK_COLOURS[: len(CENSUS_TASKS)], STEP_COLOUR)
Gains = dict[int, dict[str, PairedDifference]]
"""Alpha to task to the difference from uniform."""


def compare(asked: Asked) -> Report:
    """Train GradOPS with every alpha, and judge each on the training and on the test rows."""
    setting = census_setting(asked)
    arms = [UNIFORM, *(gradops(alpha) for alpha in ALPHAS)]
    found = asked.sweep(setting.run_yaml, arms, "sweep", test=setting.test)
    gains = {
        "training": gains_of(scores_on(found, setting.train)),
        "test": gains_of(scores_of(found, "test")),
    }
    draw(gains, asked.picture)
    rows = (
        [f"{alpha}", rows_of, *(interval(of_alpha[task]) for task in TASKS)]
        for rows_of, of_rows in gains.items()
        for alpha, of_alpha in of_rows.items()
    )
    return Report(
        f"{setting.in_words(asked.seeds)}\nAUC - AUC of {UNIFORM.name}, with 95 % intervals over "
        f"paired seeds:\n\n{table(['alpha', 'rows', *TASKS], rows)}",
        {
            rows_of: {a: {t: asdict(d) for t, d in by_task.items()} for a, by_task in g.items()}
            for rows_of, g in gains.items()
        },
        [found],
    )


def scores_on(found: Mapping[str, Any], log: str) -> Scores:
    """The AUCs of a sweep's finished cells on a log, of the checkpoint that the sweep judged."""
    scores: Scores = {}
    for cell in found["cells"]:
        of_arm = scores.setdefault(cell["arm"], {})
        if cell["status"] == "finished":
            judged = evaluate(cell["url"], log, checkpoint=cell["checkpoint"])
            of_arm[cell["seed"]] = {task: n["auc"] for task, n in judged["tasks"].items()}
    return scores


def gains_of(scores: Scores) -> Gains:
    """How much each alpha gains over uniform."""
    return {
        alpha: {task: difference(scores, gradops(alpha).name, UNIFORM.name, task) for task in TASKS}
        for alpha in ALPHAS
    }


def draw(gains: Mapping[str, Gains], path: Path) -> None:
    """One panel per set of rows, one line per task and of the average."""
    figure, axes = panels(len(gains), width=7, height=5, share_y=True)
    for panel, (rows, of_rows) in zip(axes, gains.items(), strict=True):
        panel.axhline(0.0, color="black", linewidth=1)
        for task, colour in zip(TASKS, COLOURS, strict=True):
            values = [1000 * of_rows[alpha][task].mean for alpha in ALPHAS]
            panel.plot(ALPHAS, values, marker="o", ms=4, color=colour, label=task)
        panel.set_title(f"{rows} rows", fontweight="bold", loc="left")
        panel.set_xticks(ALPHAS)
        panel.set_xlabel("alpha")
    axes[0].set_ylabel(f"1000 × (AUC - AUC of {UNIFORM.name})")
    axes[-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    title = "Census-Income: Figure 8 of the GradOPS paper, gains by alpha"
    parser = census_parser(NAME, __doc__, seeds=3)
    return run(Experiment(NAME, title, compare), parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
