"""The GradOPS paper's Table 4: its weighting on raw gradients (DW) and on PCGrad's (PCGrad-DW).

    python -m pipelines.experiments.census_table4 --data ../shared/data/census_income

Beside them stand uniform, and GradOPS with the same alphas: the paper's point is that the weighting
pays on gradients that do not conflict. Written: `census_table4.md`, `.json`, `.png` in --out.
"""

import sys
from collections.abc import Sequence

from pipelines.experiments.shared.census_setting import census_parser, census_setting
from pipelines.experiments.shared.command import Asked, Experiment, Report, run
from pipelines.experiments.shared.method_arms import table_4
from pipelines.experiments.shared.paper import CENSUS_TABLE_1, CENSUS_TABLE_4, CENSUS_TASKS
from pipelines.experiments.shared.score_report import score_report

NAME = "census_table4"


def compare(asked: Asked) -> Report:
    """Train every method with every seed, and judge each once on the test rows."""
    setting = census_setting(asked)
    found = asked.sweep(setting.run_yaml, table_4(), "sweep", test=setting.test)
    return score_report(
        asked,
        found,
        CENSUS_TASKS,
        words=setting.in_words(asked.seeds),
        published={**CENSUS_TABLE_4, **CENSUS_TABLE_1},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    title = "Census-Income: Table 4 of the GradOPS paper"
    parser = census_parser(NAME, __doc__, seeds=10)
    return run(Experiment(NAME, title, compare), parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
