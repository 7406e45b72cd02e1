"""The configuration's own rules: combinations, changes that end a run, and its YAML."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.config import ConfigError, Label, RunConfig, Section
from recsys_mtl.config.changes import MAY_CHANGE
from recsys_mtl.config.changes import changes as changes_between
from recsys_mtl.config.file import load_config
from recsys_mtl.config.label import judge_alike
from tests.unit.run_files import SMALLEST, write_run


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    return write_run(tmp_path)


def test_the_tree_cannot_be_changed(run_yaml: Path) -> None:
    config = load_config(run_yaml)
    with pytest.raises(ValueError, match="frozen"):
        config.run.seed = 3  # type: ignore[misc]


@given(lanes=st.integers(1, 40), workers=st.integers(1, 40), rows=st.integers(1, 500))
def test_there_is_a_lane_for_each_worker_and_lanes_divide_the_batch(
    lanes: int, workers: int, rows: int
) -> None:
    tree = yaml.safe_load(SMALLEST)
    tree["data"]["lanes"], tree["cluster"] = lanes, {"num_workers": workers}
    tree["training"]["global_batch_size"] = rows
    if workers <= lanes and rows % lanes == 0:
        RunConfig.model_validate(tree)
        return
    with pytest.raises(ValueError, match=r"data\.lanes") as caught:
        RunConfig.model_validate(tree)
    # Following the advice mends it.
    if workers > lanes:
        assert f"take at most {lanes}, or" in str(caught.value)
    else:
        advice = re.search(r"nearest that fits is (\d+)", str(caught.value))
        assert advice is not None
        assert int(advice[1]) % lanes == 0 < int(advice[1])
        fitting = range(lanes, rows + 2 * lanes, lanes)
        assert abs(int(advice[1]) - rows) == min(abs(fit - rows) for fit in fitting)


def test_no_workers_of_ray_s_are_one_worker_for_the_lanes(run_yaml: Path) -> None:
    here = load_config(run_yaml, ("cluster.num_workers=0", "data.lanes=1")).cluster
    assert (here.in_this_process, here.world_size) == (True, 1)
    on_ray = load_config(run_yaml, ("cluster.num_workers=4",)).cluster
    assert (on_ray.in_this_process, on_ray.world_size) == (False, 4)


@pytest.mark.parametrize("tables", ["adagrad", "sgd"])
def test_column_wise_goes_with_optimizers_that_treat_columns_alone(
    run_yaml: Path, tables: str
) -> None:
    load_config(
        run_yaml,
        (
            "sharding.item={kind: column_wise, columns_per_shard: 4}",
            f"optimizer.tables.kind={tables}",
        ),
    )


@pytest.mark.parametrize(
    ("sharding", "refusal"),
    [
        ("kind: row_wise", r"item\.kind is row_wise, which TorchRec has on CUDA only; choose"),
        ("kernel: fused_uvm", r"item\.kernel is fused_uvm, which there is on CUDA only; choose"),
    ],
)
def test_what_only_cuda_has_is_refused_on_the_cpu_alone(
    run_yaml: Path, sharding: str, refusal: str
) -> None:
    override = f"sharding.item={{{sharding}}}"
    with pytest.raises(ConfigError, match=refusal):
        load_config(run_yaml, (override, "cluster.device=cpu"))
    for device in ("auto", "cuda"):
        load_config(run_yaml, (override, f"cluster.device={device}"))


def changes(path: Path, *overrides: str) -> list[str]:
    return changes_between(load_config(path), load_config(path, overrides))


@pytest.mark.parametrize(
    "override",
    [
        "run.storage_path=s3://other",
        "data.train=elsewhere",
        "data.eval=elsewhere",
        "data.prefetch_batches=9",
        "data.on_error=skip",
        "training.epochs=5",
        "training.max_steps=5",
        "training.warm_up_steps=5",
        "training.checkpoints_kept=5",
        "training={global_batch_size: 64, evaluation_interval_steps: 5, best_by: mean_auc}",
        "training={global_batch_size: 64, evaluation_interval_steps: 5, best_by: 'auc:cart', "
        "patience_evaluations: 2}",
        "optimizer.dense={kind: adam, learning_rate: 5}",
        "optimizer.tables.learning_rate=5",
        "optimizer.schedule={kind: cosine, final_factor: 0.5}",
        "training.log_interval_steps=5",
        "training.checkpoint_interval_steps=null",
        "training.evaluation_interval_steps=5",
        "cluster.num_workers=4",
        "cluster.device=cuda",
        "gradients.backend=torch",
        "gradients.audit_interval_steps=5",
        "metrics.port=9000",
    ],
)
def test_a_run_may_go_on_with_this_changed(run_yaml: Path, override: str) -> None:
    assert changes(run_yaml, override) == []


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("run.seed=1", ["run.seed: 0 -> 1"]),
        ("run.name=other", ["run.name: 'demo' -> 'other'"]),
        ("data.lanes=16", ["data.lanes: 8 -> 16"]),
        ("data.shuffle_window_row_groups=1", ["data.shuffle_window_row_groups: 2 -> 1"]),
        ("data.labels.cart=basket", ["data.labels.cart.column: 'cart' -> 'basket'"]),
        (
            "data.labels.cart={column: cart, sample_weight: w}",
            ["data.labels.cart.sample_weight: None -> 'w'"],
        ),
        (
            "data.labels.cart={column: cart, loss_weight: 2}",
            ["data.labels.cart.loss_weight: 1.0 -> 2.0"],
        ),
        ("data.features.item.rows=7", ["data.features.item.rows: 100 -> 7"]),
        ("model.dropout=0.5", ["model.dropout: 0.0 -> 0.5"]),
        ("model.head_hidden_sizes=[4]", ["model.head_hidden_sizes: [] -> [4]"]),
        ("method={kind: uniform}", ["method.kind: 'gradops' -> 'uniform'"]),
        ("method.alpha=1", ["method.alpha: 0.0 -> 1.0"]),
        ("model.body={kind: mmoe}", ["model.body.kind: 'shared_bottom' -> 'mmoe'"]),
        ("gradients.space=representation", ["gradients.space: 'parameters' -> 'representation'"]),
        ("gradients.refresh_interval_steps=8", ["gradients.refresh_interval_steps: 1 -> 8"]),
        ("gradients.scope=bottom", ["gradients.scope: 'all' -> 'bottom'"]),
        ("training.precision=bfloat16", ["training.precision: 'float32' -> 'bfloat16'"]),
        ("optimizer.tables.kind=sgd", ["optimizer.tables.kind: 'rowwise_adagrad' -> 'sgd'"]),
        ("optimizer.dense={kind: adamw}", ["optimizer.dense.kind: 'adam' -> 'adamw'"]),
        ("optimizer.dense={kind: adam, beta1: 0.5}", ["optimizer.dense.beta1: 0.9 -> 0.5"]),
        ("training.global_batch_size=8", ["training.global_batch_size: 64 -> 8"]),
        (
            "recon={threshold: 0}",
            [
                "recon.search_only: None -> False",
                "recon.search_share: None -> 0.25",
                "recon.threshold: None -> 0.0",
            ],
        ),
        ("training.gradient_clip_norm=1.0", ["training.gradient_clip_norm: None -> 1.0"]),
    ],
)
def test_a_run_cannot_go_on_with_this_changed(
    run_yaml: Path, override: str, told: list[str]
) -> None:
    assert changes(run_yaml, override) == told


def test_of_long_vocabularies_the_first_difference_is_told(run_yaml: Path) -> None:
    def run(values: list[int]) -> RunConfig:
        return load_config(run_yaml, (f"data.features.x={{kind: one_hot, vocabulary: {values}}}",))

    short, long, other = run([3, 1]), run([*range(300)]), run([*range(40), 999, *range(41, 301)])
    place = "data.features.x.vocabulary"
    assert changes_between(short, run([1, 3])) == [f"{place}: [3, 1] -> [1, 3]"]
    assert changes_between(long, other) == [
        f"{place}: 300 values -> 301 values, of which value 41 is the first that differs "
        "(40 -> 999)"
    ]


def test_a_label_is_the_same_as_the_name_of_its_column_alone(run_yaml: Path) -> None:
    assert changes(run_yaml, "data.labels.cart={column: cart}") == []


def test_runs_are_judged_alike_by_tasks_in_one_order_that_count_the_same_rows(
    run_yaml: Path,
) -> None:
    def labels(*overrides: str) -> dict[str, Label]:
        return load_config(run_yaml, overrides).data.labels

    plain = labels()
    assert judge_alike(plain, labels("data.labels.cart={column: cart, loss_weight: 3}"))
    assert not judge_alike(plain, labels("data.labels.cart={column: cart, sample_weight: w}"))
    assert not judge_alike(plain, labels("data.labels={cart: cart, purchase: buy}"))
    assert not judge_alike(plain, labels("data.labels={purchase: buy}"))


def test_two_tasks_may_read_one_column_where_they_count_other_rows(run_yaml: Path) -> None:
    config = load_config(run_yaml, ("data.labels.paid={column: buy, only_where: cart}",))
    assert config.data.labels["paid"].only_where == "cart"
    assert config.task_names == ("purchase", "cart", "paid")


@pytest.mark.parametrize(("window", "seconds"), [("30m", 1_800), ("12h", 43_200), ("3d", 259_200)])
def test_a_window_is_minutes_hours_or_days(run_yaml: Path, window: str, seconds: int) -> None:
    label = f"{{column: buy, event_time: t, window: {window}}}"
    config = load_config(run_yaml, (f"data.labels.purchase={label}",))
    assert config.data.labels["purchase"].window_seconds == seconds


def test_weight_decay_may_change_as_a_learning_rate_may(run_yaml: Path) -> None:
    decays = ("optimizer.dense={kind: adamw, weight_decay: 0.1}", "optimizer.dense={kind: adamw}")
    before, now = (load_config(run_yaml, (override,)) for override in decays)
    assert changes_between(before, now) == []


def test_a_new_feature_and_a_new_order_are_changes(run_yaml: Path, tmp_path: Path) -> None:
    added = changes(run_yaml, "data.features.extra={kind: dense}")
    assert added[0] == "data.features: ['item', 'price'] -> ['item', 'price', 'extra']"
    assert "data.features.extra.kind: None -> 'dense'" in added
    tree = yaml.safe_load(SMALLEST)
    for key in ("features", "labels"):
        tree["data"][key] = dict(reversed(tree["data"][key].items()))
    turned = tmp_path / "turned.yaml"
    turned.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    assert changes_between(load_config(run_yaml), load_config(turned)) == [
        "data.features: ['item', 'price'] -> ['price', 'item']",
        "data.labels: ['purchase', 'cart'] -> ['cart', 'purchase']",
    ]


def test_the_resolved_tree_reads_back_as_itself(run_yaml: Path, tmp_path: Path) -> None:
    config = load_config(
        run_yaml, ("optimizer.tables.epsilon=1e-12", "model.head_hidden_sizes=[4]")
    )
    written = tmp_path / "resolved.yaml"
    written.write_text(config.to_yaml(), encoding="utf-8")
    again = load_config(written)
    assert again == config
    assert list(again.data.features) == list(config.data.features)
    assert changes_between(config, again) == []


TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["1e5", "12", "on", "null", "~", "2024-01-01", "1:30", "0x1f", "", " a", "é", "- a", "{a}", "#"]
)


@given(
    train=TEXTS,
    column=TEXTS,
    rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    alpha=st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_text_and_number_reads_back_as_itself(
    tmp_path_factory: pytest.TempPathFactory, train: str, column: str, rate: float, alpha: float
) -> None:
    tree = yaml.safe_load(SMALLEST)
    tree["data"]["train"] = train
    tree["data"]["features"]["price"]["column"] = f"x{column}"
    tree["data"]["features"]["few"] = {"kind": "one_hot", "vocabulary": list({train, column})}
    tree["data"]["labels"]["purchase"] = f"y{column}"
    tree["optimizer"] = {"tables": {"learning_rate": rate}}
    tree["method"]["alpha"] = alpha
    config = RunConfig.model_validate(tree)
    path = tmp_path_factory.mktemp("run") / "run.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path) == config


def sections(kind: type[Section]) -> Iterator[type[Section]]:
    for child in kind.__subclasses__():
        yield child
        yield from sections(child)


def test_every_section_and_field_is_described() -> None:
    found = list(sections(Section))
    assert RunConfig in found
    for section in found:
        assert section.__doc__, section
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def test_every_path_that_may_change_exists(run_yaml: Path) -> None:
    tree: Any = load_config(run_yaml, ("optimizer.dense={kind: adamw}",)).model_dump()
    for path in MAY_CHANGE:
        place = tree
        for key in path.split("."):
            assert key in place, path
            place = place[key]
