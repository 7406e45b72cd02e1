"""What each experiment asks to be trained, and what it says of scores that are made by hand."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.census import add_data_arguments
from pipelines.experiments import (
    census_contrasts,
    census_figure4,
    census_figure7,
    census_figure8,
    census_table4,
    clicks_conflict,
    clicks_table3,
    fair_trade,
)
from pipelines.experiments.shared.command import experiment_parser
from pipelines.experiments.shared.networks import parameters
from pipelines.experiments.shared.paper import CENSUS_TASKS, CLICK_TASKS
from pipelines.experiments.shared.tuning import families
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.runner import TrainingError
from recsys_mtl.driver.sweep import Arm
from recsys_mtl.metrics.columns import Column
from recsys_mtl.metrics.trace import TraceWriter
from tests.unit.pipelines.census_lines import write_archive
from tests.unit.pipelines.hand_made_sweeps import HandMade, ScoreOf


def on_census(folder: Path, name: str, score: ScoreOf, seeds: int = 2, **more: Any) -> HandMade:
    csv_train, csv_test = write_archive(folder, seed=1, rows=60)
    parser = experiment_parser(name, "What it is.", seeds=seeds)
    add_data_arguments(parser)
    options = parser.parse_args(["--csv-train", str(csv_train), "--csv-test", str(csv_test)])
    options.epochs, options.log, options.weigh = None, "census", "projected"
    options.price_per_core_hour = 0.1
    seed_list = list(range(1, seeds + 1))
    return HandMade(name, options, folder, seed_list, "", tasks=CENSUS_TASKS, score=score, **more)


def on_clicks(folder: Path, name: str, score: ScoreOf, **more: Any) -> HandMade:
    options = experiment_parser(name, "What it is.", seeds=2).parse_args([])
    options.rows, options.log_seed, options.epochs = 200, 1, None
    options.log, options.arms, options.price_per_core_hour = "clicks", None, 0.1
    return HandMade(name, options, folder, [1, 2], "", tasks=CLICK_TASKS, score=score, **more)


def test_the_contrasts_choose_weights_on_other_seeds_and_judge_four_arms(tmp_path: Path) -> None:
    def score(arm: Arm, seed: int) -> float:
        is_best = {"static_1_2_4": 0.69, "gradops_-3": 0.7 + seed / 1000, "gradops_0": 0.65}
        return is_best.get(arm.name, 0.6 if seed > 1000 else 0.6 - seed / 1000)

    asked = on_census(tmp_path, "census_contrasts", score, seeds=3)
    found = census_contrasts.compare(asked)
    assert len(asked.arms["tuning"]) == 19
    assert [a.name for a in asked.arms["tuning_finalists"]][:2] == ["uniform", "static_1_1_2"]
    assert len(asked.arms["tuning_finalists"]) == 5
    judged = [arm.name for arm in asked.arms["judged"]]
    assert judged == ["uniform", "gradops_-3", "gradops_0", "static_1_2_4"]
    contrasts = found.content["contrasts"]
    assert [(c["arm"], c["other"]) for c in contrasts] == [
        ("gradops_-3", "gradops_0"),
        ("gradops_0", "uniform"),
        ("gradops_-3", "static_1_2_4"),
    ]
    assert contrasts[2]["difference"]["mean"] == pytest.approx(0.012)
    assert "seeds 1001 to 1003: static_1_2_4." in found.markdown
    assert asked.picture.exists()


def test_where_no_weights_are_better_the_tuned_ones_are_uniform(tmp_path: Path) -> None:
    asked = on_census(tmp_path, "census_contrasts", lambda arm, _: 0.7 - len(arm.name) / 1000)
    found = census_contrasts.compare(asked)
    assert [arm.name for arm in asked.arms["judged"]] == ["uniform", "gradops_-3", "gradops_0"]
    assert found.content["contrasts"][2]["other"] == "uniform"


def test_nothing_is_chosen_while_a_run_is_missing(tmp_path: Path) -> None:
    asked = on_census(
        tmp_path, "census_contrasts", lambda arm, _: 0.7, failed={"static_1_2_4", "uniform"}
    )
    with pytest.raises(TrainingError, match="2 of 19 are not finished: uniform, seed 1001; static"):
        census_contrasts.compare(asked)
    assert list(asked.arms) == ["tuning"]


def test_more_seeds_judge_what_was_chosen_and_priced_before(tmp_path: Path) -> None:
    asked = on_clicks(
        tmp_path, "fair_trade", lambda arm, seed: 0.6, result=result(700, (1024, 512, 256, 128))
    )
    first = fair_trade.compare(asked).content
    arms = dict(asked.arms)
    # What the judging runs take, and find, changes neither the ratio nor a setting.
    asked.seconds.update({"gradops": 5.0, "uniform": 0.1})
    asked.seeds.append(3)
    again = fair_trade.compare(asked).content
    assert (again["ratio"], again["settings"]) == (first["ratio"], first["settings"])
    assert asked.arms == arms


def test_table_4_names_the_papers_figures(tmp_path: Path) -> None:
    asked = on_census(tmp_path, "census_table4", lambda arm, seed: 0.7)
    found = census_table4.compare(asked)
    assert "*.9449* | *.9838* | *.8850* | *.9378*" in found.markdown  # PCGrad-DW -2


def test_figure_4_counts_the_weightings_above_gradops(tmp_path: Path) -> None:
    def score(arm: Arm, seed: int) -> float:
        return 0.7 if arm.name == "gradops_-3" else float(arm.name.split("_")[1]) / 3

    asked = on_census(tmp_path, "census_figure4", score, seeds=1)
    found = census_figure4.compare(asked)
    assert len(asked.arms["sweep"]) == 101
    assert "Of 100 static weightings 30 have a higher average" in found.markdown
    best = found.content["static"][0]
    assert best["weights"][0] == pytest.approx(3 * 0.95)
    assert best["distance"] == pytest.approx(np.linalg.norm(np.subtract(best["weights"], 1.0)))
    assert asked.picture.exists()


def test_figure_7_draws_the_weights_of_the_traces(tmp_path: Path) -> None:
    asked = on_census(tmp_path, "census_figure7", lambda arm, seed: 0.7)
    columns = [Column(name, "number", "") for name in ("step", "attempt")]
    columns += [Column("weight", "number", "", (task,)) for task in CENSUS_TASKS]
    for alpha in census_figure7.ALPHAS:
        for seed in asked.seeds:
            writer = TraceWriter(f"{tmp_path}/sweep/gradops_{alpha}-{seed}/trace", 1, columns)
            writer.append(
                {"step": step, "attempt": 1}
                | {f"weight_{task}": 1 + alpha * step / 100 + seed for task in CENSUS_TASKS}
                for step in range(20)
            )
            writer.flush()
    found = census_figure7.compare(asked)
    for alpha in census_figure7.ALPHAS:
        assert found.content["mean_weights"][alpha] == pytest.approx([2.5 + 0.095 * alpha] * 3)
    assert asked.picture.exists()


def test_figure_8_has_the_gains_on_both_sets_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(url: str, log: str, *, checkpoint: str) -> dict[str, Any]:
        assert (Path(log).name, checkpoint) == ("train.parquet", "last")
        auc = 0.9 if "gradops_4" in url else 0.8
        return {"tasks": {task: {"auc": auc} for task in CENSUS_TASKS}}

    monkeypatch.setattr(census_figure8, "evaluate", evaluate)
    asked = on_census(
        tmp_path, "census_figure8", lambda arm, _: 0.6 if arm.name == "gradops_-4" else 0.5
    )
    found = census_figure8.compare(asked)
    gains = {rows: of[a]["marital"]["mean"] for rows, of in found.content.items() for a in (4,)}
    assert gains == pytest.approx({"training": 0.1, "test": 0.0})
    assert found.content["test"][-4]["income"]["mean"] == pytest.approx(0.1)
    assert len(re.findall(r"^\| -?\d+ \| training ", found.markdown, re.MULTILINE)) == 11
    assert asked.picture.exists()


def test_clicks_table_3_says_what_a_model_can_hope_for(tmp_path: Path) -> None:
    asked = on_clicks(tmp_path, "clicks_table3", lambda arm, seed: 0.7)
    found = clicks_table3.compare(asked)
    assert "together, the true probabilities reach purchase 0." in found.markdown
    assert len(asked.arms["sweep"]) == 15


def test_every_log_of_the_grid_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicks_conflict, "CORRELATIONS", (0.4, -0.45))
    monkeypatch.setattr(clicks_conflict, "RATIOS", (1, 5))
    asked = on_clicks(
        tmp_path,
        "clicks_conflict",
        lambda arm, seed: 0.7 + (seed if arm.name == "gradops_-1" else 0) / 100,
    )
    found = clicks_conflict.compare(asked)
    assert list(asked.arms) == [
        f"correlation_{c:g}_ratio_{r}/sweep" for c in (0.4, -0.45) for r in (1, 5)
    ]
    for correlation, ratio in ((0.4, 1), (0.4, 5), (-0.45, 1), (-0.45, 5)):
        assert f"\n| {correlation:g} | {ratio} | 40 % |" in found.markdown
    assert "with gradops_-1: +0.0150 (" in found.markdown
    assert "the largest of 12 differences" in found.markdown
    assert asked.picture.exists()


def result(inputs: int, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Of a run whose parameters are all in the bottom and linear heads."""
    heads = 3 * (sizes[-1] + 1)
    shared = parameters(sizes, (), inputs, 3) - heads
    return {
        "parameters": {"shared": shared, "task_specific": heads},
        "tasks": dict.fromkeys(CLICK_TASKS),
        "steps": 100,
    }


def test_the_plain_sum_is_given_as_much_compute(tmp_path: Path) -> None:
    def score(arm: Arm, seed: int) -> float:
        gains = {"gradops": 0.02, "gradops_refresh_8": 0.0199, "static_weights": 0.01}
        return 0.6 + gains.get(arm.name, 0.0) + seed / 1000

    trials = {
        f.name: [a.name for a in f.trials] for f in families(dict.fromkeys(CLICK_TASKS, ""), 0.001)
    }
    asked = on_clicks(
        tmp_path,
        "fair_trade",
        score,
        seconds=dict.fromkeys(["gradops", *trials["gradops"]], 2.0),
        result=result(700, (1024, 512, 256, 128)),
    )
    found = fair_trade.compare(asked)
    assert len(asked.arms["tuning"]) == 96
    longer, wider = asked.arms["equal_compute"]
    assert longer.overrides[-2:] == ("training.epochs=null", "training.max_steps=200")
    config = load_config(tmp_path / "run.yaml", wider.overrides)
    sizes = config.model.bottom_hidden_sizes
    plain = parameters((1024, 512, 256, 128), (), 700, 3)
    assert parameters(sizes, (), 700, 3) == pytest.approx(2 * plain, rel=0.01)
    assert "Exact GradOPS took 2.00 times as long" in found.markdown
    costs = {cost["arm"]: cost for cost in found.content["costs"]}
    assert costs["gradops"]["price_per_billion_rows"] == pytest.approx(0.1 * 1e9 / 1.8e6)
    same = [arm for arm, cost in costs.items() if cost["same_quality"]]
    assert same == ["gradops_refresh_8", "gradops"]
    assert asked.picture.exists()
