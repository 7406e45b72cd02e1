"""The runs of a sweep, and what is refused before the first starts."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from recsys_mtl.config import UserError
from recsys_mtl.driver.sweep.arms import Arm, grid
from recsys_mtl.driver.sweep.cells import (
    Cell,
    plan_cells,
    refuse_what_cannot_be_compared,
    tasks_of,
)
from tests.unit.run_files import write_run

ALONE = Arm("single-task", (), single_task=True)


def plan(
    folder: Path,
    arms: Sequence[Arm],
    seeds: Sequence[int] = (1,),
    overrides: Sequence[str] = (),
) -> list[Cell]:
    return plan_cells(
        str(write_run(folder)), arms, seeds=seeds, overrides=overrides, runs_url=f"{folder}/runs"
    )


def arms_of(*sets: str) -> list[Arm]:
    return grid(sets)[0]


def test_every_arm_is_a_run_per_seed_all_of_the_first_seed_first(tmp_path: Path) -> None:
    cells = plan(tmp_path, arms_of("method.alpha=-1,0"), seeds=(3, 4), overrides=["data.lanes=4"])
    assert [cell.name for cell in cells] == [
        "alpha_-1-seed3",
        "alpha_0-seed3",
        "alpha_-1-seed4",
        "alpha_0-seed4",
    ]
    assert [(cell.arm, cell.seed) for cell in cells[1:3]] == [("alpha=0", 3), ("alpha=-1", 4)]
    config = cells[2].config
    assert (config.run.seed, config.data.lanes) == (4, 4)
    assert config.method.model_dump() == {"kind": "gradops", "alpha": -1.0}
    assert cells[2].url == f"{tmp_path}/runs/alpha_-1-seed4"
    assert Path(config.data.train).is_absolute()
    assert tasks_of(cells) == ("purchase", "cart")


def test_a_single_task_arm_is_a_run_per_label(tmp_path: Path) -> None:
    labels = (
        "data.labels={purchase: {column: buy, loss_weight: 2.0, sample_weight: w}, cart: cart}",
        "training.best_by=log_loss:cart",
        "training.evaluation_interval_steps=10",
        "method={kind: gradnorm}",
    )
    cells = plan(tmp_path, [ALONE], seeds=(2,), overrides=labels)
    assert [(cell.name, cell.task) for cell in cells] == [
        ("single-task-purchase-seed2", "purchase"),
        ("single-task-cart-seed2", "cart"),
    ]
    purchase = cells[0].config
    assert purchase.task_names == ("purchase",)
    label = purchase.data.labels["purchase"]
    assert (label.column, label.loss_weight, label.sample_weight) == ("buy", 2.0, "w")
    assert purchase.method.kind == "uniform", "one task has nothing to be combined with"
    assert purchase.training.best_by == "log_loss:purchase", "there is no cart to be best by"
    assert tasks_of(cells) == ("purchase", "cart")


def test_the_mean_of_one_task_is_that_task(tmp_path: Path) -> None:
    by_mean = ("training.best_by=mean_auc", "training.evaluation_interval_steps=10")
    assert plan(tmp_path, [ALONE], overrides=by_mean)[1].config.training.best_by == "auc:cart"


def test_a_single_task_has_no_pairs_for_recon_to_count(tmp_path: Path) -> None:
    cells = plan(tmp_path, [Arm("all", ()), ALONE], overrides=["recon={threshold: -0.1}"])
    assert [cell.config.recon is None for cell in cells] == [False, True, True]


def test_no_task_has_the_name_of_the_mean(tmp_path: Path) -> None:
    labels = "data.labels={average: bought, cart: cart}"
    with pytest.raises(UserError, match="a task 'average', which in a sweep is the mean"):
        tasks_of(plan(tmp_path, [Arm("all", ())], overrides=[labels]))


def test_long_and_strange_names_of_arms_are_folders(tmp_path: Path) -> None:
    long = "x" * 300
    cells = plan(tmp_path, [Arm("größe [64, 32]", ()), Arm(long, ())])
    assert cells[0].name == "gr_e_64_32-seed1"
    assert len(cells[1].name) < 130
    assert cells[1].arm == long


@pytest.mark.parametrize(
    ("arms", "seeds", "overrides", "says"),
    [
        (arms_of("method.alhpa=1,2"), (1,), (), "arm 'alhpa=1': {yaml}: method.alhpa: unknown key"),
        (
            arms_of("method.kind=uniform,pcgrad"),
            (1,),
            ["method.alpha=-1"],
            "arm 'kind=uniform': method of this kind has no alpha; write the section of each kind "
            "whole, with the settings of that kind, as "
            '--set "method={{kind: uniform}},{{kind: pcgrad}}"',
        ),
        (
            arms_of("method={kind: gradops},{kind: uniform}", "method.alpha=1,2"),
            (1,),
            (),
            "arm 'uniform, alpha=1': method of this kind has no alpha; write the section of each "
            "kind whole, with the settings of that kind, as --set "
            '"method={{kind: gradops, alpha: 1.0}},{{kind: gradops, alpha: 2.0}},'
            '{{kind: uniform}}"',
        ),
        (
            arms_of("model.body.kind=mmoe,ple"),
            (1,),
            ["model.body={kind: ple, levels: 3}"],
            '--set "model.body={{kind: mmoe}},{{kind: ple, levels: 3}}"',
        ),
        (
            arms_of("data.features.item.kind=id,dense"),
            (1,),
            (),
            "no rows, embedding_dim; write the section of each kind whole, with the settings of "
            'that kind, as --set "data.features.item={{kind: id, rows: 100, embedding_dim: 8}},'
            '{{kind: dense}}"',
        ),
        (
            arms_of("method.kind=gradops,pcgrad", "method.alfa=1"),
            (1,),
            (),
            "arm 'kind=gradops': {yaml}: method.alfa: unknown key (value 1); did you mean alpha?",
        ),
        (
            arms_of("method={kind: pcgrad}", "method.alpha=1,2"),
            (1,),
            (),
            "arm 'alpha=1': {yaml}: method.alpha: unknown key (value 1); allowed: kind",
        ),
        (arms_of("alpha=1,2"), (1,), (), "metrics; did you mean method.alpha?"),
        (arms_of("method.alpha=1,x"), (1,), (), "arm 'alpha=x': {yaml}: method.alpha: "),
        (arms_of("cluster.num_workers=1,9"), (1,), (), "arm 'num_workers=9': {yaml}: cluster.num"),
        ([], (1,), (), "a sweep needs an arm; give a setting with several values"),
        ([Arm("a", ()), Arm("a", ("data.lanes=4",))], (1,), (), "two arms have the name 'a'"),
        ([Arm("a b", ()), Arm("a,b", ())], (1,), (), "'a b' and 'a,b' would share the folder a_b-"),
        ([Arm("a", ())], (), (), "a sweep needs a seed; give --seeds 1 or more"),
        ([Arm("a", ())], (1, 1), (), "a seed stands twice in [1, 1]"),
        ([Arm("a", ())], (-1,), (), "arm 'a': --set: run.seed: "),
        (arms_of("run.seed=1,2"), (1,), (), "--set run.seed=1: every arm is trained with the same"),
        ([Arm("a", ())], (1,), ("run={name: x}",), "--for-all run={{name: x}}: the sweep names "),
        (
            [Arm("a", ())],
            (1,),
            ("run.storage_path=x",),
            "--for-all run.storage_path=x: the sweep keeps",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    tmp_path: Path, arms: list[Arm], seeds: list[int], overrides: list[str], says: str
) -> None:
    with pytest.raises(UserError) as refused:
        plan(tmp_path, arms, seeds, overrides)
    assert says.format(yaml=tmp_path / "run.yaml") in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        (arms_of("method.alpha=0,0.0"), "'alpha=0' and 'alpha=0.0' are the same configuration"),
        (arms_of("data.eval=a,b"), "'eval=a' and 'eval=b' differ in data.eval"),
        (
            arms_of("data.labels={a: buy},{a: buy, b: cart}"),
            "differ in data.labels, and scores of other tasks do not compare",
        ),
    ],
)
def test_arms_that_do_not_compare_are_refused(tmp_path: Path, arms: list[Arm], says: str) -> None:
    cells = plan(tmp_path, arms)
    with pytest.raises(UserError) as refused:
        refuse_what_cannot_be_compared(cells, arms)
    assert says in str(refused.value)


def test_arms_that_differ_in_their_first_values_or_their_loss_weights_compare(
    tmp_path: Path,
) -> None:
    arms = [
        ALONE,
        Arm("plain", ()),
        Arm("warm", ("run.warm_start={from: runs/other}",)),
        Arm("tuned", ("data.labels.cart={column: cart, loss_weight: 2.0}",)),
    ]
    refuse_what_cannot_be_compared(plan(tmp_path, arms), arms)
