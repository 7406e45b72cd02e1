"""What cells come to over their seeds, and how arms compare."""

import math
from pathlib import Path

import pytest

from recsys_mtl.driver.sweep.arms import Arm
from recsys_mtl.driver.sweep.outcomes import Outcome, judged_checkpoint
from recsys_mtl.driver.sweep.statistics import arm_records, costs
from tests.unit.driver.sweep.sweeps import (
    ALONE,
    ALPHA,
    TASKS,
    UNIFORM,
    cells_of,
    outcomes_of,
    result,
)

AUCS = {
    ("uniform", 1): (0.80, 0.70),
    ("uniform", 2): (0.82, 0.70),
    ("uniform", 3): (0.81, 0.70),
    ("alpha=-1", 1): (0.79, 0.75),
    ("alpha=-1", 2): (0.80, 0.76),
    ("alpha=-1", 3): (0.81, 0.74),
}


def test_means_spreads_ranks_and_paired_differences_by_hand(tmp_path: Path) -> None:
    arms = [UNIFORM, ALPHA]
    outcomes = outcomes_of(cells_of(tmp_path, arms, (1, 2, 3)), AUCS)
    uniform, alpha = arm_records(arms, outcomes, TASKS, "uniform")
    assert uniform["eval"]["mean"] == pytest.approx(
        {"purchase": 0.81, "cart": 0.70, "average": 0.755}
    )
    assert uniform["eval"]["std"]["purchase"] == pytest.approx(0.01)
    assert uniform["eval"]["delta_m"] == 0.0
    assert "difference" not in uniform["eval"]
    assert alpha["eval"]["delta_m"] == pytest.approx(50 * (0.01 / 0.81 - 0.05 / 0.70))
    assert (uniform["eval"]["mean_rank"], alpha["eval"]["mean_rank"]) == (1.5, 1.5)
    assert uniform["eval"]["pareto"]
    assert alpha["eval"]["pareto"]
    difference = alpha["eval"]["difference"]["purchase"]  # of -0.01, -0.02 and 0
    assert difference["mean"] == pytest.approx(-0.01)
    assert difference["upper"] == pytest.approx(-0.01 + 4.302653 * 0.01 / math.sqrt(3))
    assert difference["p_holm"] == difference["p_value"], "there is one comparison"
    assert difference["pairs"] == 3
    assert alpha["test"] is None


def test_a_seed_counts_once_all_its_runs_are_there_and_differences_are_of_common_seeds(
    tmp_path: Path,
) -> None:
    arms = [ALONE, UNIFORM]
    aucs = {
        ("single-task", 1): (0.9, 0.8),
        ("uniform", 1): (0.8, 0.7),
        ("uniform", 2): (0.6, 0.5),
    }
    cells = cells_of(tmp_path, arms, (1, 2))
    outcomes = outcomes_of(cells, aucs)
    alone, uniform = arm_records(arms, outcomes, TASKS, "single-task")
    assert alone["eval"]["seeds"] == [1]
    assert alone["eval"]["mean"] == pytest.approx({"purchase": 0.9, "cart": 0.8, "average": 0.85})
    assert uniform["eval"]["seeds"] == [1, 2]
    assert uniform["eval"]["difference"]["cart"]["pairs"] == 1
    assert uniform["eval"]["difference"]["cart"]["mean"] == pytest.approx(-0.1)
    half = [o for o in outcomes if not (o.cell.task == "cart" and o.cell.seed == 1)]
    assert arm_records(arms, half, TASKS, "single-task")[0]["eval"] is None


def test_an_arm_that_lacks_a_seed_is_not_ranked_and_its_delta_m_is_of_common_seeds(
    tmp_path: Path,
) -> None:
    """Seed 2 is hard: whoever failed there must not win by it."""
    arms = [UNIFORM, ALPHA]
    aucs = {
        ("uniform", 1): (0.90, 0.90),
        ("uniform", 2): (0.70, 0.70),
        ("alpha=-1", 1): (0.81, 0.81),
    }
    outcomes = outcomes_of(cells_of(tmp_path, arms, (1, 2)), aucs)
    uniform, alpha = (arm["eval"] for arm in arm_records(arms, outcomes, TASKS, "uniform"))
    assert (alpha["delta_m"], alpha["delta_m_seeds"]) == (pytest.approx(10.0), 1)
    for arm in (uniform, alpha):  # uniform would be the best of itself
        assert math.isnan(arm["mean_rank"])
        assert not arm["pareto"]
    third = Arm("third", ("method.alpha=3",))
    aucs |= {("third", seed): (0.71, 0.61) for seed in (1, 2)}
    outcomes = outcomes_of(cells_of(tmp_path, [*arms, third], (1, 2)), aucs)
    ranked = [arm["eval"] for arm in arm_records([*arms, third], outcomes, TASKS, "uniform")]
    assert [arm["pareto"] for arm in ranked] == [True, False, False]
    assert (ranked[0]["mean_rank"], ranked[2]["mean_rank"]) == (1.0, 2.0)
    assert math.isnan(ranked[1]["mean_rank"])


def test_an_arm_without_any_result_is_left_out_and_differences_without_the_baseline_are_too(
    tmp_path: Path,
) -> None:
    arms = [UNIFORM, ALPHA]
    outcomes = outcomes_of(cells_of(tmp_path, arms, (1,)), {("alpha=-1", 1): (0.8, 0.7)})
    uniform, alpha = arm_records(arms, outcomes, TASKS, "uniform")
    assert uniform["eval"] is None
    assert math.isnan(uniform["seconds"])
    assert math.isnan(alpha["eval"]["mean_rank"]), "it has no rival"
    assert "delta_m" not in alpha["eval"]
    assert "difference" not in alpha["eval"]


def test_scores_on_the_test_log_stand_beside(tmp_path: Path) -> None:
    arms = [UNIFORM, ALPHA]
    cells = cells_of(tmp_path, arms, (1, 2, 3))
    judged = {key: (a - 0.1, b - 0.1) for key, (a, b) in AUCS.items()}
    outcomes = outcomes_of(cells, AUCS, judged)
    alpha = arm_records(arms, outcomes, TASKS, "uniform")[1]
    for quantity in (*TASKS, "average"):
        assert alpha["test"]["mean"][quantity] == pytest.approx(
            alpha["eval"]["mean"][quantity] - 0.1
        )


def test_what_an_arm_costs_is_per_seed_and_a_model_of_single_tasks_takes_all_its_runs(
    tmp_path: Path,
) -> None:
    aucs = {(arm, seed): (0.8, 0.7) for arm in ("uniform", "single-task") for seed in (1, 2)}
    outcomes = outcomes_of(cells_of(tmp_path, [UNIFORM, ALONE], (1, 2)), aucs)
    one = costs([o for o in outcomes if o.cell.arm == "uniform"])
    both = costs([o for o in outcomes if o.cell.arm == "single-task"])
    assert one == pytest.approx(  # 1,000 rows in 10 s on 2 CPUs
        {"seconds": 10.0, "core_hours": 20 / 3600, "rows_per_core_hour": 180_000.0}
    )
    assert both == pytest.approx(
        {"seconds": 20.0, "core_hours": 40 / 3600, "rows_per_core_hour": 90_000.0}
    )


def test_the_best_evaluation_counts_where_a_checkpoint_holds_it(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, [UNIFORM], (1,))
    last = {"purchase": 0.7, "cart": None}
    best = {"checkpoint": "c7", "step": 9, "tasks": result({"purchase": 0.8, "cart": 0.6})["tasks"]}
    with_best, without = result(last, best=best), result(last)
    assert judged_checkpoint(with_best) == "c7"
    assert Outcome(cell, with_best, 1, None, None).auc == {"purchase": 0.8, "cart": 0.6}
    assert judged_checkpoint(without) == "last"
    assert math.isnan(Outcome(cell, without, 1, None, None).auc["cart"])
    never_scored = result(last, best={"checkpoint": None, "step": None, "tasks": {}})
    assert judged_checkpoint(never_scored) == "last"
