"""The GradOPS paper's Table 3 on a synthetic click log: all methods, and six alphas of GradOPS.

    python -m pipelines.experiments.clicks_table3 --rows 1000000 --seeds 3

The paper's log is private, so its figures stand beside others than those of the same rows: what can
agree is the order of methods and the size of differences. MGDA-UB, CAGrad and UPGrad are not in the
paper's table. Written: `clicks_table3.md`, `.json` and `.png` in --out.
"""

import sys
from collections.abc import Sequence

from pipelines.experiments.shared.clicks_setting import (
    clicks_parser,
    clicks_setting,
    truth_in_words,
)
from pipelines.experiments.shared.command import Asked, Experiment, Report, run
from pipelines.experiments.shared.method_arms import chosen, table_3
from pipelines.experiments.shared.paper import CLICK_TASKS, TAOBAO_TABLE_3
from pipelines.experiments.shared.score_report import score_report

NAME = "clicks_table3"


def compare(asked: Asked) -> Report:
    """Train every method with every seed, and judge each once on the test rows."""
    setting = clicks_setting(asked, asked.out)
    arms = chosen(table_3(), asked.options.arms)
    found = asked.sweep(setting.run_yaml, arms, "sweep", test=setting.test)
    words = setting.in_words(asked.seeds) + truth_in_words(asked.out)
    return score_report(asked, found, CLICK_TASKS, words=words, published=TAOBAO_TABLE_3)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = clicks_parser(NAME, __doc__, seeds=3, rows=1_000_000)
    parser.add_argument("--arms", nargs="+", metavar="NAME", help="these methods alone")
    title = "A synthetic click log: Table 3 of the GradOPS paper"
    return run(Experiment(NAME, title, compare), parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
