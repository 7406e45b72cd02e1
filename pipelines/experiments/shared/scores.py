"""AUCs by arm, seed and task, and what they come to: means, intervals, ranks, contrasts."""

# T tasks, A arms

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Literal

from recsys_mtl.metrics.comparison import (
    PairedDifference,
    delta_m,
    holm,
    mean_ranks,
    paired_difference,
)

AVERAGE = "average"
"""The mean over the tasks, wherever a task may be named."""

SeedScores = dict[str, float]
"""Task to AUC, of one run."""
Scores = dict[str, dict[int, SeedScores]]
"""Arm to seed to task to AUC; an arm of which no run is finished has no seeds."""


def scores_of(found: Mapping[str, Any], split: Literal["eval", "test"]) -> Scores:
    """The AUCs of a sweep, by each arm and seed of which all tasks have one.

    Args:
        found: what `sweep` returns.
        split: `eval` for the rows on which choices are made, `test` for those that judge.
    """
    tasks, key = found["tasks"], {"eval": "auc", "test": "test_auc"}[split]
    scores: Scores = {arm["name"]: {} for arm in found["arms"]}
    for cell in found["cells"]:  # a single-task arm has one per task
        known = {task: auc for task, auc in cell[key].items() if auc is not None}
        scores[cell["arm"]].setdefault(cell["seed"], {}).update(known)
    return {
        arm: {seed: {t: s[t] for t in tasks} for seed, s in by_seed.items() if set(s) == set(tasks)}
        for arm, by_seed in scores.items()
    }


def score(scores: SeedScores, task: str) -> float:
    """The AUC of a task, or the mean of all."""
    return mean(scores.values()) if task == AVERAGE else scores[task]


def difference(scores: Scores, arm: str, other: str, task: str) -> PairedDifference:
    """How much higher `arm` scores than `other`, over the seeds that both have."""
    seeds = [seed for seed in scores[arm] if seed in scores[other]]
    ours, theirs = ([score(scores[name][s], task) for s in seeds] for name in (arm, other))
    return paired_difference(ours, theirs)


@dataclass(frozen=True)
class Line:
    """One arm's line in a table."""

    arm: str
    seeds: int
    """How many runs stand behind it; NaN everywhere where there are none."""
    means: dict[str, float]
    """Task, and AVERAGE, to the mean over the seeds."""
    stds: dict[str, float]
    """The same of the standard deviation over the seeds, NaN with one seed."""
    delta_m: float
    """Against the baseline, in percent, of the means; NaN without it."""
    mean_rank: float
    """Among the arms of the table, of the means."""
    differences: dict[str, PairedDifference]
    """Task, and AVERAGE, to the paired difference from the reference; empty for itself."""


def lines_of(
    scores: Scores, tasks: Sequence[str], *, reference: str, baseline: str | None
) -> list[Line]:
    """One line per arm, in the order of `scores`.

    Args:
        tasks: [T] names.
        reference: the arm from which differences are taken.
        baseline: the arm of delta-m; None where there is none.
    """
    every = {seed for of_arm in scores.values() for seed in of_arm}
    # An arm that lacks a seed is not ranked: seeds differ by more than arms do.
    ranks = mean_ranks(
        [
            [_mean(of_arm, task) if every == of_arm.keys() else math.nan for task in tasks]
            for of_arm in scores.values()
        ]
    )
    of_baseline = {} if baseline is None else scores.get(baseline, {})
    return [
        Line(
            arm=arm,
            seeds=len(of_arm),
            means={task: _mean(of_arm, task) for task in (*tasks, AVERAGE)},
            stds={task: _std(of_arm, task) for task in (*tasks, AVERAGE)},
            delta_m=delta_m(
                *(
                    [_mean(_of_seeds(a, of_arm, of_baseline), task) for task in tasks]
                    for a in (of_arm, of_baseline)
                )
            ),
            mean_rank=rank,
            differences={}
            if arm == reference or reference not in scores
            else {task: difference(scores, arm, reference, task) for task in (*tasks, AVERAGE)},
        )
        for (arm, of_arm), rank in zip(scores.items(), ranks, strict=True)
    ]


def best_arms(scores: Scores, arms: Iterable[str], count: int = 1) -> list[str]:
    """The arms with the highest averages, of the means over the seeds; of equals the first.

    Args:
        scores: of runs that are all finished; an arm that has none for a seed, for it predicts
            no numbers any more, is not chosen.
        count: how many, the best first.
    """
    of_arms = {arm: scores[arm] for arm in arms}
    every = {seed for of_arm in of_arms.values() for seed in of_arm}
    complete = [arm for arm, of_arm in of_arms.items() if every == of_arm.keys()]
    return sorted(complete, key=lambda arm: -_mean(of_arms[arm], AVERAGE))[:count]


@dataclass(frozen=True)
class Contrast:
    """A difference that was decided on before anything was run."""

    arm: str
    other: str
    difference: PairedDifference
    """Of the average AUC."""
    adjusted_p_value: float
    """Holm's, over the contrasts that were decided on together."""
    by_task: dict[str, PairedDifference]
    """Of each task, for information: these were not decided on, and are not adjusted."""


def contrasts_of(
    scores: Scores, pairs: Sequence[tuple[str, str]], tasks: Sequence[str]
) -> list[Contrast]:
    """The contrasts of pairs (arm, other), with Holm's correction over all of them."""
    differences = [difference(scores, arm, other, AVERAGE) for arm, other in pairs]
    adjusted = holm([found.p_value for found in differences])
    return [
        Contrast(
            arm,
            other,
            found,
            p_value,
            {task: difference(scores, arm, other, task) for task in tasks},
        )
        for (arm, other), found, p_value in zip(pairs, differences, adjusted, strict=True)
    ]


def _of_seeds(
    of_arm: Mapping[int, SeedScores], *others: Mapping[int, SeedScores]
) -> dict[int, SeedScores]:
    """The scores of the seeds that the others have, too."""
    return {seed: s for seed, s in of_arm.items() if all(seed in other for other in others)}


def _mean(of_arm: Mapping[int, SeedScores], task: str) -> float:
    return mean(score(s, task) for s in of_arm.values()) if of_arm else math.nan


def _std(of_arm: Mapping[int, SeedScores], task: str) -> float:
    return stdev(score(s, task) for s in of_arm.values()) if len(of_arm) > 1 else math.nan
