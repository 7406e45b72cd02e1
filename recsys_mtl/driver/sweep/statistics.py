"""What the cells of each arm come to over their seeds, and how arms compare."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any

from recsys_mtl.driver.sweep.arms import Arm
from recsys_mtl.driver.sweep.choice import AVERAGE
from recsys_mtl.driver.sweep.outcomes import Outcome
from recsys_mtl.metrics.comparison import (
    delta_m,
    holm,
    mean_ranks,
    paired_difference,
    pareto_set,
)

BySeed = dict[int, dict[str, float]]
"""Seed to the AUC of every task and their average."""
AucOf = Callable[[Outcome], Mapping[str, float]]
"""Task to AUC, on the log in question; empty where the cell has none."""


def scores_by_seed(outcomes: Sequence[Outcome], tasks: Sequence[str], auc_of: AucOf) -> BySeed:
    """The scores of one arm, by each seed of which every cell has them.

    Args:
        outcomes: of the arm; a single-task arm has one per task and seed.
    """
    found: BySeed = {}
    for seed in dict.fromkeys(outcome.cell.seed for outcome in outcomes):
        cells = [outcome for outcome in outcomes if outcome.cell.seed == seed]
        scores = {task: auc for cell in cells for task, auc in auc_of(cell).items()}
        if set(scores) == set(tasks):
            in_order = {task: scores[task] for task in tasks}
            found[seed] = in_order | {AVERAGE: mean(in_order.values())}
    return found


def compared(
    scores: Mapping[str, BySeed], tasks: Sequence[str], baseline: str
) -> dict[str, dict[str, Any]]:
    """Means, spreads, ranks and differences of arms on one log.

    Args:
        scores: arm to its scores; an arm without any seed is left out of everything.

    Returns:
        By arm. Differences and delta-m are those to the baseline over the seeds that both have, as
        many as `pairs` and `delta_m_seeds` say; `p_holm` is adjusted for the comparisons of all
        arms in this task. An arm that lacks a seed of another has no rank and is not in the Pareto
        set, as seeds differ by more than arms do; nor has an arm without a rival that has every
        seed, too.
    """
    quantities = (*tasks, AVERAGE)
    arms = [arm for arm, by_seed in scores.items() if by_seed]
    means = {arm: {q: mean(s[q] for s in scores[arm].values()) for q in quantities} for arm in arms}
    every = {seed for arm in arms for seed in scores[arm]}
    rivals = [arm for arm in arms if every == scores[arm].keys()]
    rivals = rivals if len(rivals) > 1 else []
    table = [[means[arm][task] if arm in rivals else math.nan for task in tasks] for arm in arms]
    found: dict[str, dict[str, Any]] = {}
    for arm, rank, kept in zip(arms, mean_ranks(table), pareto_set(table), strict=True):
        found[arm] = {
            "seeds": list(scores[arm]),
            "mean": means[arm],
            "std": {q: _std([s[q] for s in scores[arm].values()]) for q in quantities},
            "mean_rank": rank,
            "pareto": kept,
        }
        both = [seed for seed in scores[arm] if seed in scores.get(baseline, {})]
        if both:
            ours, theirs = (
                [mean(scores[a][seed][task] for seed in both) for task in tasks]
                for a in (arm, baseline)
            )
            found[arm] |= {"delta_m": delta_m(ours, theirs), "delta_m_seeds": len(both)}
    others = [arm for arm in arms if arm != baseline]
    if baseline in arms:
        for quantity in quantities:
            _add_differences(found, scores, others, baseline, quantity)
    return found


def _add_differences(
    found: dict[str, dict[str, Any]],
    scores: Mapping[str, BySeed],
    arms: Sequence[str],
    baseline: str,
    quantity: str,
) -> None:
    differences = []
    for arm in arms:
        seeds = [seed for seed in scores[arm] if seed in scores[baseline]]
        ours, theirs = ([scores[a][s][quantity] for s in seeds] for a in (arm, baseline))
        differences.append(paired_difference(ours, theirs))
    adjusted = holm([difference.p_value for difference in differences])
    for arm, difference, p_holm in zip(arms, differences, adjusted, strict=True):
        of_arm = found[arm].setdefault("difference", {})
        of_arm[quantity] = asdict(difference) | {"p_holm": p_holm}


def _std(values: Sequence[float]) -> float:
    """The standard deviation over seeds; NaN of one alone."""
    return stdev(values) if len(values) > 1 else math.nan


def costs(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """What one seed of an arm takes, in the mean over its finished ones.

    `seconds` and `core_hours` are sums over its runs. A single-task arm needs all of its T runs for
    a model of all tasks, so `rows_per_core_hour` are the rows of one run by the core-hours of all.
    """
    seconds, core_hours, rates = list[float](), list[float](), list[float]()
    for seed in dict.fromkeys(outcome.cell.seed for outcome in outcomes):
        cells = [outcome for outcome in outcomes if outcome.cell.seed == seed]
        results = [outcome.result for outcome in cells if outcome.result is not None]
        if len(results) < len(cells):
            continue
        seconds.append(sum(outcome.seconds for outcome in cells))
        core_hours.append(sum(outcome.core_hours for outcome in cells))
        rates.append(mean(result["rows"] for result in results) / core_hours[-1])
    if not seconds:
        return dict.fromkeys(("seconds", "core_hours", "rows_per_core_hour"), math.nan)
    return {
        "seconds": mean(seconds),
        "core_hours": mean(core_hours),
        "rows_per_core_hour": mean(rates),
    }


def arm_records(
    arms: Sequence[Arm], outcomes: Sequence[Outcome], tasks: Sequence[str], baseline: str
) -> list[dict[str, Any]]:
    """What sweep.json says of the arms, in their order."""
    of_arm = {arm.name: [o for o in outcomes if o.cell.arm == arm.name] for arm in arms}
    on_logs: dict[str, dict[str, dict[str, Any]]] = {}
    for log, auc_of in (("eval", _auc), ("test", _test_auc)):
        scores = {name: scores_by_seed(found, tasks, auc_of) for name, found in of_arm.items()}
        on_logs[log] = compared(scores, tasks, baseline)
    return [
        {
            "name": arm.name,
            "overrides": list(arm.overrides),
            "single_task": arm.single_task,
            **costs(of_arm[arm.name]),
            "eval": on_logs["eval"].get(arm.name),
            "test": on_logs["test"].get(arm.name),
        }
        for arm in arms
    ]


def _auc(outcome: Outcome) -> Mapping[str, float]:
    return outcome.auc


def _test_auc(outcome: Outcome) -> Mapping[str, float]:
    return outcome.test_auc
