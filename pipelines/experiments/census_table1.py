"""The GradOPS paper's Table 1: all methods on Census-Income, test AUC at the best validation epoch.

    python -m pipelines.experiments.census_table1 --data ../shared/data/census_income
    python -m pipelines.experiments.census_table1 \
        --csv-train census-income.data --csv-test census-income.test

The setting is the paper's, and so are the defaults: 200 epochs, 10 seeds (see pipelines/census.py
for what differs). RotoGrad is missing, as no method here rotates a representation; UPGrad, which is
newer than the paper, is there besides. Written: `census_table1.md`, `.json` and `.png` in --out.
"""

import sys
from collections.abc import Sequence

from pipelines.experiments.shared.census_setting import census_parser, census_setting
from pipelines.experiments.shared.command import Asked, Experiment, Report, run
from pipelines.experiments.shared.method_arms import chosen, table_1
from pipelines.experiments.shared.paper import CENSUS_TABLE_1, CENSUS_TASKS
from pipelines.experiments.shared.score_report import score_report

NAME = "census_table1"


def compare(asked: Asked) -> Report:
    """Train every method with every seed, and judge each once on the test rows."""
    setting = census_setting(asked)
    arms = chosen(table_1(), asked.options.arms)
    found = asked.sweep(setting.run_yaml, arms, "sweep", test=setting.test)
    return score_report(
        asked,
        found,
        CENSUS_TASKS,
        words=setting.in_words(asked.seeds),
        published=CENSUS_TABLE_1,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = census_parser(NAME, __doc__, seeds=10)
    parser.add_argument("--arms", nargs="+", metavar="NAME", help="these methods alone")
    title = "Census-Income: Table 1 of the GradOPS paper"
    return run(Experiment(NAME, title, compare), parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
