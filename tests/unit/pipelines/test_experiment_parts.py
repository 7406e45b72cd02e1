"""Arms, networks, grids and commands of the experiments, without training anything."""

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.experiments import (
    census_contrasts,
    census_figure4,
    census_figure7,
    clicks_conflict,
    fair_trade,
    recon_table,
)
from pipelines.experiments.shared import clicks_setting as clicks
from pipelines.experiments.shared.command import Asked, Experiment, Report, experiment_parser, run
from pipelines.experiments.shared.conflict_counts import Counts, counting
from pipelines.experiments.shared.method_arms import chosen, table_1, table_3, table_4
from pipelines.experiments.shared.networks import inputs_of, parameters, wider
from pipelines.experiments.shared.paper import (
    CENSUS_TABLE_1,
    CENSUS_TABLE_4,
    CENSUS_TASKS,
    CLICK_TASKS,
    TAOBAO_TABLE_3,
)
from pipelines.experiments.shared.recon_arms import random_layers, refuse_unusable, with_own_layers
from pipelines.experiments.shared.recon_report import Found, claims, report
from pipelines.experiments.shared.setting import Setting, seeds_in_words
from pipelines.experiments.shared.tuning import TRIALS, families
from pipelines.synthetic_tasks import TaskRelation
from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.lease import LeaseError
from recsys_mtl.driver.preemption import PreemptionError
from recsys_mtl.driver.runner import TrainingError

COLUMNS = {task: task for task in CLICK_TASKS}


def asked(folder: Path, **options: Any) -> Asked:
    given = argparse.Namespace(**({"set": [], "parallel": 1, "epochs": None} | options))
    return Asked("name", given, folder, [1], "python -m ...")


@pytest.fixture(scope="module")
def clicks_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clicks")
    return clicks.clicks_setting(asked(folder, rows=500, log_seed=3), folder).run_yaml


def test_every_published_method_is_an_arm_of_its_table() -> None:
    for arms, published in (
        (table_1(), CENSUS_TABLE_1),
        (table_3(), TAOBAO_TABLE_3),
        (table_4(), CENSUS_TABLE_4),
    ):
        names = [arm.name for arm in arms]
        assert set(published) <= set(names)
        assert len(set(names)) == len(names)


def test_every_arm_is_a_configuration(clicks_yaml: Path) -> None:
    grid = [census_figure4.arm_of((0.5, 0.7, 1.8), weigh) for weigh in ("projected", "losses")]
    grid += census_contrasts.static_weights()
    of_clicks = dict(zip(CENSUS_TASKS, CLICK_TASKS, strict=True)) | {
        f"label_{ours}": theirs for ours, theirs in zip(CENSUS_TASKS, CLICK_TASKS, strict=True)
    }
    for arm in (*table_1(), *table_3(), *table_4(), *grid, *clicks_conflict.ARMS):
        overrides = arm.overrides
        for ours, theirs in of_clicks.items():
            overrides = tuple(override.replace(ours, theirs) for override in overrides)
        load_config(clicks_yaml, overrides)


def test_every_family_has_the_same_budget_of_different_trials(clicks_yaml: Path) -> None:
    found = families(COLUMNS, 0.001)
    assert {len(family.trials) for family in found} == {TRIALS}
    arms = [arm for family in found for arm in family.trials]
    assert len({arm.overrides for arm in arms}) == len({arm.name for arm in arms}) == len(arms)
    assert set(fair_trade.PAID) <= {family.name for family in found}
    for family in found:
        for arm in family.trials[::5]:
            labels = load_config(clicks_yaml, arm.overrides).data.labels.values()
            assert sum(label.loss_weight for label in labels) == pytest.approx(3.0, abs=1e-5)


def test_figure_4_has_100_weightings_that_sum_to_the_tasks() -> None:
    grid = census_figure4.weightings()
    assert len(set(grid)) == 100
    assert [sum(weights) for weights in grid] == pytest.approx([3.0] * 100, abs=1e-5)
    assert min(min(weights) for weights in grid) > 0


def test_the_tuned_weights_come_from_18_and_uniform() -> None:
    arms = census_contrasts.static_weights()
    assert len({arm.overrides for arm in arms}) == len({arm.name for arm in arms}) == 18


def test_a_wider_bottom_has_as_many_parameters_and_no_more() -> None:
    sizes, inputs, tasks = (64, 32, 16), 50, 3
    plain = parameters(sizes, (), inputs, tasks)
    assert plain == 51 * 64 + 65 * 32 + 33 * 16 + 3 * 17
    assert inputs_of(plain - 3 * 17, sizes) == inputs
    assert wider(sizes, plain, inputs, tasks) == list(sizes)
    wanted = parameters(sizes, {0, 2}, inputs, tasks)
    assert wanted == plain + 2 * (51 * 64 + 33 * 16)
    found = parameters(wider(sizes, wanted, inputs, tasks), (), inputs, tasks)
    assert 0.97 * wanted < found <= wanted
    narrow = parameters(wider(sizes, plain / 2, inputs, tasks), (), inputs, tasks)
    assert 0.45 * plain < narrow <= plain / 2


def test_every_method_is_a_configuration_with_any_layer_task_specific(clicks_yaml: Path) -> None:
    for arm in recon_table.METHODS:
        own = with_own_layers(arm, ["bottom.layers.0", "bottom.layers.2"], "recon")
        config = load_config(clicks_yaml, (*own.overrides, counting(-0.02)))
        assert config.model.task_specific_layers == ("bottom.layers.0", "bottom.layers.2")
        assert config.recon is not None
        assert (config.recon.threshold, config.recon.search_share) == (-0.02, 1.0)


def test_random_layers_are_none_of_those_compared_with_anyway() -> None:
    assert random_layers("abc", ["a", "b"]) == ["c"]
    assert random_layers("ab", ["a", "b"]) is None
    drawn = random_layers("abcd", ["ab", "cd"])
    assert drawn is not None
    assert len(drawn) == 2
    assert random_layers("abcd", ["ab", "cd"]) == drawn


def test_more_layers_than_can_be_task_specific_are_refused(clicks_yaml: Path) -> None:
    config = load_config(clicks_yaml)
    refuse_unusable(config, 3)
    for count in (0, 4):
        with pytest.raises(UserError, match=f"--layers is {count}, and the bottom has 4: bottom"):
            refuse_unusable(config, count)


def counts(*conflicting: int, pairs: int = 100) -> Counts:
    of = dict(zip(("low", "middle", "high"), conflicting, strict=False))
    return Counts(of, of, dict.fromkeys(of, pairs))


def test_layers_are_ranked_by_score_and_shares_are_of_compared_pairs() -> None:
    found = counts(5, 20, 5)
    assert found.ranking() == ["middle", "high", "low"]
    assert found.share(["low", "middle"]) == 0.125
    assert math.isnan(found.share(["none"]))


def recon_found(with_recon: tuple[int, int], of_surgery: int) -> Found:
    """Two seeds: high is task-specific; the plain sum has 30 and 32 of 100 in the others."""
    by_arm = {
        "uniform": {1: counts(30, 30, 60), 2: counts(32, 32, 60)},
        "pcgrad": {1: counts(of_surgery, of_surgery, 60), 2: counts(of_surgery, of_surgery, 60)},
        "uniform_recon": {1: counts(*with_recon), 2: counts(*with_recon)},
        "pcgrad_recon": {1: counts(1, 1), 2: counts(2, 1)},
    }
    scores = {arm: {1: {"cart": 0.7}, 2: {"cart": 0.8}} for arm in by_arm}
    return Found(["uniform", "pcgrad"], ["high"], scores, by_arm, {1: counts(9, 1, 1)}, {})


def test_claims_are_confirmed_by_what_was_fixed_beforehand() -> None:
    surgery, fewer, serves = claims(recon_found((2, 2), of_surgery=30))
    assert surgery.endswith("confirmed for pcgrad.")
    assert fewer.endswith("confirmed for uniform, pcgrad.")
    assert serves.endswith("confirmed for pcgrad; not for the other log.")
    surgery, fewer, _ = claims(recon_found((31, 31), of_surgery=20))
    assert surgery.endswith("not for pcgrad.")
    assert fewer.endswith("confirmed for pcgrad; not for uniform.")


def test_where_the_plain_sum_never_conflicts_nothing_is_said_of_surgery() -> None:
    found = recon_found((2, 2), of_surgery=30)
    counted = dict(found.counts) | {"uniform": {1: counts(0, 0, 0)}}
    surgery, *_ = claims(dataclasses.replace(found, counts=counted))
    assert surgery.endswith("not to be told from these runs.")


def test_the_report_on_recon_compares_with_the_same_method_without_it() -> None:
    setting = Setting(Path("run.yaml"), "train", "test", {"cart": "cart"}, "10 rows", "AUC")
    text = report(recon_found((2, 2), of_surgery=30), setting, [1, 2])
    assert "| pcgrad_recon | .7500 | .7500 | +0.0000 (+0.0000 to +0.0000) |" in text
    assert "shared with and without Recon: low, middle" in text
    assert "| the other log | 1 | 9 | 1 | 1 |" in text


def test_a_log_of_clicks_has_a_file_to_choose_by_and_one_to_judge_by(tmp_path: Path) -> None:
    relation = TaskRelation(-0.2, (0.3, 0.2, 0.1))
    given = asked(tmp_path, rows=500, log_seed=3)
    setting = clicks.clicks_setting(given, tmp_path, relation=relation, hidden_sizes=(8, 4))
    config = load_config(setting.run_yaml)
    files = [Path(config.data.eval), Path(setting.test)]
    assert files[0] != files[1]
    assert [pq.read_metadata(file).num_rows for file in files] == [100, 100]
    assert config.model.bottom_hidden_sizes == (8, 4)

    written = files[0].stat().st_mtime_ns
    clicks.clicks_setting(given, tmp_path, relation=relation)
    assert files[0].stat().st_mtime_ns == written  # it is there, and not written again
    with pytest.raises(UserError, match="log holds the log of an earlier call with other --rows"):
        clicks.clicks_setting(asked(tmp_path, rows=600, log_seed=3), tmp_path, relation=relation)
    assert files[0].stat().st_mtime_ns == written


def test_a_log_with_rows_to_spare_trains_on_as_many_rows_as_asked(tmp_path: Path) -> None:
    given = asked(tmp_path, rows=5_000, log_seed=3)
    setting = clicks.clicks_setting(given, tmp_path, spare=2)
    training = load_config(setting.run_yaml).training
    assert (training.epochs, training.max_steps) == (None, 3)
    assert sum(pq.read_metadata(f).num_rows for f in Path(setting.train).iterdir()) == 10_000


def test_the_grid_of_logs_has_the_papers_kind_of_rates() -> None:
    assert clicks_conflict.relation_of(0.4, 25).rates == (0.2, 0.04, 0.008)
    assert clicks_conflict.relation_of(0.4, 1).rates == (0.2, 0.2, 0.2)


def test_weights_are_averaged_over_steps_and_their_ends() -> None:
    steps = np.linspace(0.0, 1.9, 20)[:, None] * np.ones((1, 3))
    whole, first, last = census_figure7.stretches([steps, steps + 1])
    assert whole == pytest.approx([1.45] * 3)
    assert first == pytest.approx([0.55] * 3)
    assert last == pytest.approx([2.35] * 3)


def cells(*statuses: str) -> dict[str, Any]:
    return {"cells": [{"arm": "a", "seed": n, "status": s} for n, s in enumerate(statuses)]}


def command(folder: Path, found: Report | BaseException, *more: str) -> int:
    def experiment(_: Asked) -> Report:
        if isinstance(found, BaseException):
            raise found
        return found

    parser = experiment_parser("name", "What it is.", seeds=2)
    return run(Experiment("name", "Title", experiment), parser, ["--out", str(folder), *more])


def test_a_report_is_written_with_the_command_that_made_it(tmp_path: Path) -> None:
    assert command(tmp_path, Report("text\n", {"a": math.nan}, [cells("finished")])) == 0
    markdown = (tmp_path / "name.md").read_text()
    assert markdown.startswith("## Title\n\n`python -m pipelines.experiments.name --out ")
    assert markdown.endswith("text\n")
    content = json.loads((tmp_path / "name.json").read_text())
    assert content["a"] is None
    assert content["seeds"] == [1, 2]


def test_runs_that_failed_are_named_and_end_it_with_status_1(tmp_path: Path) -> None:
    assert command(tmp_path, Report("", {}, [cells("finished", "failed")])) == 1
    assert "in no number above: a, seed 1." in (tmp_path / "name.md").read_text()


def test_what_the_user_can_mend_is_one_sentence_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, UserError("give another")) == 2
    assert capsys.readouterr().err == "give another\n"
    file = tmp_path / "file"
    file.write_text("")
    assert command(file, Report("", {}, [])) == 2
    assert f"--out {file} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("override", ["method.alpha=1", "run.seed=4", "data.eval=other", "data={}"])
def test_a_setting_that_experiments_have_of_their_own_is_refused(
    override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command(tmp_path, Report("", {}, []), "--set", override)
    assert f"--set {override}: the experiment sets" in capsys.readouterr().err
    assert command(tmp_path, Report("", {}, []), "--set", "data.evaluation_rows=1") == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TrainingError("a worker failed"), 1),
        (LeaseError("another sweep is at work"), 1),
        (PreemptionError("ended by SIGTERM"), 143),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_ends_it_early_is_one_line_and_a_status(
    error: BaseException, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, error) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "name.md").exists()


def test_an_arm_that_is_not_there_is_refused() -> None:
    assert [arm.name for arm in chosen(table_4(), ["gradops_-1", "dw_-1"])] == [
        "dw_-1",
        "gradops_-1",
    ]
    with pytest.raises(UserError, match="--arms names dw_5, x; the arms are: uniform, dw_-1"):
        chosen(table_4(), ["x", "dw_5", "dw_-1"])


@pytest.mark.parametrize("module", [recon_table, fair_trade])
def test_census_needs_its_rows(
    module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module.main(["--log", "census", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("say where the rows are")


def test_seeds_are_said_in_words() -> None:
    assert seeds_in_words([1]) == "seed 1"
    assert seeds_in_words(range(1, 4)) == "seeds 1 to 3"
