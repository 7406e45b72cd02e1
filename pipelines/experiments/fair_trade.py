"""The sceptic's and the payer's page: equal tuning, equal compute, and what equal quality costs.

    python -m pipelines.experiments.fair_trade --log clicks --rows 1000000 --seeds 5
    python -m pipelines.experiments.fair_trade --log census --data ../shared/data/census_income

1. Every method is tuned with the same budget: 12 trials on the validation rows with the seeds
   TUNING_SEEDS, 192 runs in all. A method with a knob of its own has four values of it, with three
   learning rates; one without has twelve learning rates. Static loss weights are one of them.
2. The tuned methods are trained with every seed of --seeds and judged once on the test rows.
3. Exact GradOPS takes longer per row. So the plain sum is given as much compute in two ways: as
   many more rows (of clicks, rows that nobody has trained on; of census, epochs), and a bottom with
   as many more parameters, so multiplications. How many more is measured in step 1.
4. What a billion rows cost, with --price-per-core-hour, for the plain sum, tuned weights, GradOPS
   with coefficients of every 8th step, and exact. A method has the quality of the exact one where
   the 95 % interval of its average AUC, minus the exact one's, lies above -MARGIN.

Times are of this machine and of whatever else it does; with --parallel, runs disturb each other.
Written: `fair_trade.md`, `.json` and `.png` in --out.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import fsspec

from pipelines.experiments.shared.clicks_setting import clicks_setting
from pipelines.experiments.shared.command import Asked, Experiment, Report, run
from pipelines.experiments.shared.figures import draw_differences
from pipelines.experiments.shared.log_choice import log_parser, setting_of
from pipelines.experiments.shared.markdown import interval, number, score_table, table
from pipelines.experiments.shared.method_arms import UNIFORM
from pipelines.experiments.shared.networks import inputs_of, parameters, wider
from pipelines.experiments.shared.score_report import numbers_of
from pipelines.experiments.shared.scores import (
    AVERAGE,
    Scores,
    best_arms,
    difference,
    lines_of,
    scores_of,
)
from pipelines.experiments.shared.setting import Setting
from pipelines.experiments.shared.tuning import EXACT, REFRESHED, STATIC, Family, families
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.sweep import Arm

NAME = "fair_trade"
TUNING_SEEDS = (1001, 1002)
"""Others than those of the judgement, so that what is judged was not chosen for its luck."""
MARGIN = 0.0005
SPARE = 4
"""Times the rows of a run lie in the log of clicks, for the arm that is given more."""
LONGER, WIDER = "uniform_more_rows", "uniform_wider"
PAID = (UNIFORM.name, STATIC, REFRESHED, EXACT)


def compare(asked: Asked) -> Report:
    """Tune, judge, give the plain sum as much compute, and count what each costs."""
    setting = _setting(asked)
    rate = load_config(setting.run_yaml, tuple(asked.options.set)).optimizer.dense.learning_rate
    methods = families(setting.label_columns, rate)
    trials = [trial for method in methods for trial in method.trials]
    tuning = asked.stage(setting.run_yaml, trials, "tuning", seeds=TUNING_SEEDS)
    tried = scores_of(tuning, "eval")
    arms = [
        _renamed(trials, best_arms(tried, [t.name for t in method.trials])[0], method.name)
        for method in methods
    ]
    judged = asked.sweep(setting.run_yaml, arms, "judged", test=setting.test)
    ratio = _cost_ratio(tuning, methods)
    equal = asked.sweep(
        setting.run_yaml,
        _as_expensive(asked, setting, tuning, arms, ratio),
        "equal_compute",
        test=setting.test,
    )
    scores = scores_of(judged, "test") | scores_of(equal, "test")
    found = _Found(scores, judged, equal, ratio, {arm.name: arm.overrides for arm in arms})
    return _report(asked, setting, found, [tuning, judged, equal])


@dataclass(frozen=True)
class _Found:
    """What all stages have found."""

    scores: Scores
    judged: Mapping[str, Any]
    equal: Mapping[str, Any]
    ratio: float
    """How much longer exact GradOPS takes per row than the plain sum."""
    settings: dict[str, tuple[str, ...]]
    """Method to what was tuned."""


def _setting(asked: Asked) -> Setting:
    """As any experiment's; on clicks with rows to spare in the log."""
    if asked.options.log == "census":
        return setting_of(asked)
    return clicks_setting(asked, asked.out, spare=SPARE)


def _renamed(arms: Sequence[Arm], name: str, new_name: str) -> Arm:
    return Arm(new_name, next(arm.overrides for arm in arms if arm.name == name))


def _cost_ratio(tuning: Mapping[str, Any], methods: Sequence[Family]) -> float:
    """Seconds per row of exact GradOPS by those of the plain sum, medians over all their trials.

    Of the tuning, which stays as it is when more seeds judge: so does what equals its cost.
    """
    trials = {method.name: {arm.name for arm in method.trials} for method in methods}
    exact, plain = (
        median(c["seconds"] / c["rows"] for c in tuning["cells"] if c["arm"] in trials[name])
        for name in (EXACT, UNIFORM.name)
    )
    return float(exact / plain)


def _as_expensive(
    asked: Asked, setting: Setting, tuning: Mapping[str, Any], arms: Sequence[Arm], ratio: float
) -> list[Arm]:
    """The tuned plain sum with more rows, and with a wider bottom."""
    tuned = next(arm for arm in arms if arm.name == UNIFORM.name)
    cell = next(c for c in tuning["cells"] if c["arm"].startswith(f"{UNIFORM.name}_"))
    with fsspec.open(f"{cell['url']}/result.json") as file:
        result = json.load(file)
    sizes = load_config(setting.run_yaml, tuple(asked.options.set)).model.bottom_hidden_sizes
    inputs, tasks = inputs_of(result["parameters"]["shared"], sizes), len(setting.tasks)
    widths = wider(sizes, ratio * parameters(sizes, (), inputs, tasks), inputs, tasks)
    steps = round(ratio * result["steps"])
    return [
        Arm(LONGER, (*tuned.overrides, "training.epochs=null", f"training.max_steps={steps}")),
        Arm(WIDER, (*tuned.overrides, f"model.bottom_hidden_sizes={widths}")),
    ]


def _report(
    asked: Asked, setting: Setting, found: _Found, sweeps: Sequence[Mapping[str, Any]]
) -> Report:
    lines = lines_of(found.scores, setting.tasks, reference=UNIFORM.name, baseline=None)
    draw_differences(lines, setting.tasks, asked.picture, reference=UNIFORM.name)
    price = asked.options.price_per_core_hour
    costs = [_costs(found, arm, price) for arm in (*PAID, LONGER, WIDER)]
    tuned = "".join(f"- {arm}: {', '.join(words)}\n" for arm, words in found.settings.items())
    parts = (
        setting.in_words(asked.seeds),
        f"Exact GradOPS took {number(found.ratio, 2)} times as long per row as the plain sum.\n",
        score_table(lines, setting.tasks, reference=UNIFORM.name),
        _cost_table(costs, price),
        f"Tuned settings:\n\n{tuned}",
    )
    content = {
        "ratio": found.ratio,
        "settings": found.settings,
        "arms": [numbers_of(line, None) for line in lines],
        "costs": costs,
    }
    return Report("\n".join(parts), content, sweeps)


def _costs(found: _Found, arm: str, price: float) -> dict[str, Any]:
    """What an arm costs, and whether it has the quality of exact GradOPS."""
    records = (*found.judged["arms"], *found.equal["arms"])
    record = next(record for record in records if record["name"] == arm)
    rate = record["rows_per_core_hour"]
    behind = difference(found.scores, arm, EXACT, AVERAGE)
    return {
        "arm": arm,
        "core_hours": record["core_hours"],
        "rows_per_core_hour": rate,
        "price_per_billion_rows": None if rate is None else price * 1e9 / rate,
        "difference": asdict(behind),
        "in_words": interval(behind) if arm != EXACT else "-",
        "same_quality": arm == EXACT or behind.lower > -MARGIN,
    }


def _cost_table(costs: Sequence[Mapping[str, Any]], price: float) -> str:
    columns = (
        *("method", "core-hours of a run", "million rows per core-hour"),
        f"price of 10^9 rows at {price:g} per core-hour",
        *(f"average - {EXACT} (95 %)", f"its quality, to {MARGIN:g}"),
    )
    rows = (
        [
            cost["arm"],
            f"{_known(cost['core_hours']):.3g}",
            number(_known(cost["rows_per_core_hour"]) / 1e6, 1),
            number(_known(cost["price_per_billion_rows"]), 2),
            cost["in_words"],
            "yes" if cost["same_quality"] else "not shown",
        ]
        for cost in costs
    )
    return table(columns, rows)


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = log_parser(NAME, __doc__, seeds=5, rows=1_000_000)
    parser.add_argument(
        "--price-per-core-hour",
        type=_price,
        default=0.04,
        metavar="PRICE",
        help="in any currency (%(default)s)",
    )
    title = "Equal tuning, equal compute, and what equal quality costs"
    return run(Experiment(NAME, title, compare), parser, arguments)


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 <= price < float("inf"):
        raise argparse.ArgumentTypeError(f"needs a number from 0 on, got '{text}'")
    return price


if __name__ == "__main__":
    sys.exit(main())
