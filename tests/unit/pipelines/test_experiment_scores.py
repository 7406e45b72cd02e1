"""What scores come to, and the tables and pictures that show it, on numbers made by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from pipelines.experiments.shared.figures import draw_differences
from pipelines.experiments.shared.markdown import auc, contrast_table, number, p_value, score_table
from pipelines.experiments.shared.paper import (
    CENSUS_TABLE_1,
    CENSUS_TABLE_4,
    TAOBAO_TABLE_3,
    Published,
)
from pipelines.experiments.shared.scores import (
    AVERAGE,
    Scores,
    best_arms,
    contrasts_of,
    lines_of,
    scores_of,
)

TASKS = ("cart", "wish")
SCORES: Scores = {
    "single_task": {1: {"cart": 0.8, "wish": 0.6}, 2: {"cart": 0.8, "wish": 0.6}},
    "uniform": {1: {"cart": 0.7, "wish": 0.6}, 2: {"cart": 0.72, "wish": 0.62}},
    "ours": {
        1: {"cart": 0.8, "wish": 0.7},
        2: {"cart": 0.86, "wish": 0.66},
        3: {"cart": 1.0, "wish": 1.0},
    },
    "failed": {},
}
PUBLISHED = {
    "uniform": Published((0.75, 0.65), 0.70, 0.1, 2.0),
    "ours": Published((0.76, 0.67), 0.715, -0.1, 1.0),
}


def cell(arm: str, seed: int, auc: dict[str, float | None]) -> dict[str, Any]:
    return {"arm": arm, "seed": seed, "auc": auc, "test_auc": dict.fromkeys(auc, 0.5)}


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_scores_are_those_of_seeds_with_all_tasks_and_keep_the_order_of_arms() -> None:
    found = {
        "tasks": ["cart", "wish"],
        "arms": [{"name": "single"}, {"name": "both"}, {"name": "failed"}],
        "cells": [
            cell("single", 1, {"wish": 0.7}),
            cell("single", 1, {"cart": 0.8}),
            cell("single", 2, {"cart": 0.8}),
            cell("both", 1, {"cart": 0.6, "wish": 0.9}),
            cell("both", 2, {"cart": 0.6, "wish": None}),
            cell("failed", 1, {}),
        ],
    }
    scores = scores_of(found, "eval")
    assert scores == {
        "single": {1: {"cart": 0.8, "wish": 0.7}},
        "both": {1: {"cart": 0.6, "wish": 0.9}},
        "failed": {},
    }
    assert list(scores) == ["single", "both", "failed"]
    assert scores_of(found, "test")["both"][2] == {"cart": 0.5, "wish": 0.5}


def test_a_line_has_means_ranks_and_differences_over_the_seeds_that_both_have() -> None:
    lines = {
        line.arm: line
        for line in lines_of(SCORES, TASKS, reference="uniform", baseline="single_task")
    }
    uniform, ours = lines["uniform"], lines["ours"]
    assert uniform.means == pytest.approx({"cart": 0.71, "wish": 0.61, AVERAGE: 0.66})
    assert uniform.stds[AVERAGE] == pytest.approx(0.02 / math.sqrt(2))
    assert uniform.delta_m == pytest.approx(100 * (0.09 / 0.8 - 0.01 / 0.6) / 2)
    assert uniform.differences == {}
    both = {arm: {seed: SCORES[arm][seed] for seed in (1, 2)} for arm in lines if SCORES[arm]}
    ranked = lines_of(both, TASKS, reference="uniform", baseline=None)
    ranks = {line.arm: line.mean_rank for line in ranked}
    assert ranks == {"ours": 1, "uniform": 2.5, "single_task": 2.5}
    assert ours.differences["cart"].mean == pytest.approx((0.1 + 0.14) / 2)
    assert ours.differences[AVERAGE].pairs == 2
    assert math.isnan(lines["failed"].means["cart"])
    without = lines_of(SCORES, TASKS, reference="uniform", baseline="none")
    assert all(math.isnan(line.delta_m) for line in without)


def test_the_best_arms_have_the_highest_averages_and_the_first_of_equals_comes_first() -> None:
    seeds = SCORES["ours"].keys() & SCORES["uniform"].keys()
    same = {arm: {s: SCORES[arm][s] for s in seeds} for arm in SCORES if arm != "failed"}
    assert best_arms(same, same) == ["ours"]
    assert best_arms(same, ("uniform", "ours"), 2) == ["ours", "uniform"]
    equal = {"first": same["ours"], "second": same["ours"]}
    assert best_arms(equal, equal, 3) == ["first", "second"]
    assert best_arms(equal | {"failed": {}}, [*equal, "failed"], 3) == ["first", "second"]


def test_an_arm_that_lacks_a_seed_is_not_ranked() -> None:
    lucky = {"lucky": {1: {"cart": 0.99, "wish": 0.99}}}
    lines = {
        line.arm: line
        for line in lines_of(SCORES | lucky, TASKS, reference="uniform", baseline="uniform")
    }
    assert math.isnan(lines["lucky"].mean_rank)
    assert lines["ours"].mean_rank == 1.0
    # Of seed 1 alone: 0.99 to 0.7 and to 0.6.
    assert lines["lucky"].delta_m == pytest.approx(50 * (1 - 0.99 / 0.7 + 1 - 0.99 / 0.6))


def test_contrasts_are_adjusted_together() -> None:
    pairs = [("ours", "uniform"), ("single_task", "uniform")]
    first, second = contrasts_of(SCORES, pairs, TASKS)
    p_values = [first.difference.p_value, second.difference.p_value]
    assert min(first.adjusted_p_value, second.adjusted_p_value) == pytest.approx(2 * min(p_values))
    assert first.by_task["wish"].mean == pytest.approx(0.07)
    _, _, *rows = rows_of(contrast_table([first, second], TASKS))
    assert rows[0][0] == "ours minus uniform"
    assert rows[0][1].startswith("+0.0950 (")
    assert rows[0][4] == "2"


def test_the_papers_line_stands_below_ours() -> None:
    lines = lines_of(SCORES, TASKS, reference="uniform", baseline="single_task")
    header, _, *rows = rows_of(score_table(lines, TASKS, reference="uniform", published=PUBLISHED))
    assert header[0] == "method"
    assert header[-1] == "average - uniform (95 %)"
    assert all(len(row) == len(header) for row in rows)
    assert [row[0] for row in rows] == [
        "single_task (2 seeds)",
        "uniform (2 seeds)",
        "*paper*",
        "ours (3 seeds)",
        "*paper*",
        "failed (0 seeds)",
    ]
    assert rows[4] == ["*paper*", "*.7600*", "*.6700*", "*.7150*", "*-0.10*", "*1.00*", "*+0.0150*"]
    assert rows[2][-1] == ""
    assert rows[5][1:] == ["-", "-", "-", "-", "-", "-"]


def test_numbers_are_written_as_the_papers_write_them() -> None:
    assert [auc(0.94538), auc(1.0), auc(math.nan)] == [".9454", "1.0000", "-"]
    assert [number(-0.001, 2), number(1.5, 2)] == ["0.00", "1.50"]
    assert [p_value(0.0004), p_value(0.0456), p_value(math.nan)] == ["< 0.001", "0.046", "-"]


@pytest.mark.parametrize("table", [CENSUS_TABLE_1, CENSUS_TABLE_4, TAOBAO_TABLE_3])
def test_published_averages_are_those_of_the_tasks(table: dict[str, Published]) -> None:
    for arm, row in table.items():
        assert row.average == pytest.approx(sum(row.scores) / 3, abs=1.1e-4), arm


def test_the_picture_is_drawn_also_with_arms_that_failed(tmp_path: Path) -> None:
    lines = lines_of(SCORES, TASKS, reference="uniform", baseline=None)
    path = tmp_path / "a.png"
    draw_differences(lines, TASKS, path, reference="uniform", published=PUBLISHED)
    assert imread(path).shape[0] > 200
