"""Three contrasts on Census-Income that were decided on before anything was run.

    python -m pipelines.experiments.census_contrasts --data ../shared/data/census_income --seeds 20

GradOPS(-3) - GradOPS(0), GradOPS(0) - uniform, and GradOPS(-3) - tuned static weights: each is the
difference of the average AUC of the three tasks on the test rows, paired by seed, with its 95 %
interval and Holm's correction over the three. The tuned weights multiply the losses of a plain sum;
they come from a fixed grid, uniform in it: each is trained with the first of TUNING_SEEDS, the
FINALISTS best with the others, too, and of these the best average on the validation rows over all
TUNING_SEEDS is taken. Then every arm is trained with every seed of --seeds and judged once on the
test rows. Written: `census_contrasts.md`, `.json` and `.png` in --out.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product

from pipelines.census_archive import LABELS
from pipelines.experiments.shared.census_setting import census_parser, census_setting
from pipelines.experiments.shared.command import Asked, Experiment, Report, run
from pipelines.experiments.shared.figures import draw_contrasts
from pipelines.experiments.shared.markdown import contrast_table, score_table
from pipelines.experiments.shared.method_arms import UNIFORM, gradops, loss_weights
from pipelines.experiments.shared.paper import CENSUS_TABLE_1, CENSUS_TASKS
from pipelines.experiments.shared.score_report import numbers_of
from pipelines.experiments.shared.scores import best_arms, contrasts_of, lines_of, scores_of
from recsys_mtl.driver.sweep import Arm

NAME = "census_contrasts"
FAVOURS_DOMINATED, PLAIN = gradops(-3), gradops(0)
TUNING_SEEDS = (1001, 1002, 1003)
"""Others than those of the contrasts, so that what is judged was not chosen for its luck."""
FINALISTS = 5
SHARES = (1, 2, 4)
"""Weights have the proportions of these numbers, in every order that differs, and sum to 3."""


def static_weights() -> list[Arm]:
    """The grid: 18 combinations of loss weights; that of equal ones is uniform."""
    found = []
    for shares in product(SHARES, repeat=len(CENSUS_TASKS)):
        if math.gcd(*shares) == 1 and len(set(shares)) > 1:  # 2, 4, 4 are the weights of 1, 2, 2
            weights = [len(shares) * share / sum(shares) for share in shares]
            of_task = dict(zip(CENSUS_TASKS, weights, strict=True))
            name = "static_" + "_".join(map(str, shares))
            found.append(Arm(name, loss_weights(of_task, LABELS)))
    return found


def compare(asked: Asked) -> Report:
    """Choose the static weights on the validation rows, then judge all arms on the test rows."""
    setting = census_setting(asked)
    grid = [UNIFORM, *static_weights()]
    first, *others = TUNING_SEEDS
    tuning = asked.stage(setting.run_yaml, grid, "tuning", seeds=[first])
    tried = scores_of(tuning, "eval")
    best = best_arms(tried, tried, FINALISTS)
    finalists = [arm for arm in grid if arm.name in best]
    final = asked.stage(setting.run_yaml, finalists, "tuning_finalists", seeds=others)
    of_finalists = {arm: tried[arm] | more for arm, more in scores_of(final, "eval").items()}
    tuned = best_arms(of_finalists, of_finalists)[0]
    judged = {arm.name: arm for arm in (UNIFORM, FAVOURS_DOMINATED, PLAIN)}
    judged |= {arm.name: arm for arm in grid if arm.name == tuned}
    found = asked.sweep(setting.run_yaml, list(judged.values()), "judged", test=setting.test)
    scores = scores_of(found, "test")
    pairs = (
        (FAVOURS_DOMINATED.name, PLAIN.name),
        (PLAIN.name, UNIFORM.name),
        (FAVOURS_DOMINATED.name, tuned),
    )
    contrasts = contrasts_of(scores, pairs, CENSUS_TASKS)
    lines = lines_of(scores, CENSUS_TASKS, reference=UNIFORM.name, baseline=None)
    draw_contrasts(contrasts, CENSUS_TASKS, asked.picture)
    tables = (
        contrast_table(contrasts, CENSUS_TASKS),
        score_table(lines, CENSUS_TASKS, reference=UNIFORM.name, published=CENSUS_TABLE_1),
    )
    return Report(
        f"{setting.in_words(asked.seeds)}Static weights: the best of {len(grid)} on the validation "
        f"rows, {FINALISTS} of them with seeds {first} to {others[-1]}: {tuned}.\n\n"
        + "\n".join(tables),
        {
            "tuned": tuned,
            "contrasts": [asdict(contrast) for contrast in contrasts],
            "arms": [numbers_of(line, CENSUS_TABLE_1) for line in lines],
        },
        [tuning, final, found],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    title = "Census-Income: three contrasts decided on beforehand"
    parser = census_parser(NAME, __doc__, seeds=20)
    return run(Experiment(NAME, title, compare), parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
