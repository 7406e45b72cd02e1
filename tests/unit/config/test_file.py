"""What a run's YAML file may say, and how everything else is refused."""

from pathlib import Path

import pytest

from recsys_mtl.config.file import load_config
from tests.unit.run_files import SMALLEST, refusal, write_run


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    return write_run(tmp_path)


def test_the_smallest_file_gets_the_documented_defaults(run_yaml: Path) -> None:
    config = load_config(run_yaml)
    assert config.task_names == ("purchase", "cart")
    assert (config.data.lanes, config.cluster.num_workers) == (8, 1)
    assert config.data.on_error == "fail"
    assert config.optimizer.dense.kind == "adam"
    assert config.optimizer.tables.kind == "rowwise_adagrad"


def test_overrides_set_values_anywhere_in_the_tree(run_yaml: Path) -> None:
    config = load_config(
        run_yaml,
        (
            "optimizer.tables.learning_rate=1e-3",
            "model.head_hidden_sizes=[8, 4]",
            "data.features.city={kind: id, table: item}",
            "training.checkpoint_interval_steps=null",
            "run.name=2024-01-01",
        ),
    )
    assert config.optimizer.tables.learning_rate == 0.001
    assert config.model.head_hidden_sizes == (8, 4)
    assert list(config.data.features) == ["item", "price", "city"]
    assert config.training.checkpoint_interval_steps is None
    assert config.run.name == "2024-01-01"


def test_an_override_may_hold_an_equals_sign(run_yaml: Path) -> None:
    assert load_config(run_yaml, ("data.train=s3://a/day=1",)).data.train == "s3://a/day=1"


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.0e-3", "+1e-3"])
def test_a_number_may_be_written_with_an_exponent(run_yaml: Path, text: str) -> None:
    config = load_config(run_yaml, (f"optimizer.tables.learning_rate={text}",))
    assert config.optimizer.tables.learning_rate == 0.001


KEYS_OF_RUN = "allowed: name, storage_path, seed"
REFUSALS = [
    ("run.name=a/b", "run.name: 'a/b' cannot be a name; allowed: letters, digits, '.', '_'"),
    ("run.name=", "run.name: must be a valid string (found None)"),
    ("run.name=12", "run.name: must be a valid string (found 12)"),
    ("run.seed=-1", "run.seed: must be greater than or equal to 0 (found -1)"),
    ("run.seed=true", "run.seed: must be a valid integer (found True)"),
    ("run.seeed=1", f"run.seeed: unknown key (value 1); did you mean seed? {KEYS_OF_RUN}"),
    ("run.colour=1", f"run.colour: unknown key (value 1); {KEYS_OF_RUN}"),
    ("run=5", f"run: must hold keys (found 5); {KEYS_OF_RUN}"),
    ("run=", f"run: must hold keys (found None); {KEYS_OF_RUN}"),
    ("trainin.epochs=3", "trainin: unknown key (value {'epochs': 3}); did you mean training? "),
    ("training.epochs=1.5", "training.epochs: must be a valid integer (found 1.5)"),
    ("training.epochs='3'", "training.epochs: must be a valid integer (found '3')"),
    ("training={}", "training.global_batch_size: is missing; add it"),
    (
        "optimizer.tables.learning_rate='0.1'",
        "optimizer.tables.learning_rate: must be a valid number (found '0.1')",
    ),
    (
        "optimizer.tables.learning_rate=.nan",
        "optimizer.tables.learning_rate: must be a finite number (found nan)",
    ),
    (
        "optimizer.tables.learning_rate=0",
        "optimizer.tables.learning_rate: must be greater than 0 (found 0)",
    ),
    (
        "optimizer.tables.kind=adam",
        "optimizer.tables.kind: must be 'rowwise_adagrad', 'adagrad' or 'sgd' (found 'adam')",
    ),
    (
        "optimizer.dense.kind=lamb",
        "optimizer.dense.kind: unknown 'lamb'; allowed: adam, adamw, sgd",
    ),
    (
        "optimizer.dense={kind: adam, weight_decay: 0.1}",
        "optimizer.dense.weight_decay: unknown key (value 0.1); allowed: kind, learning_rate, ",
    ),
    (
        "optimizer.dense={kind: adamw, weight_decay: -0.1}",
        "optimizer.dense.weight_decay: must be greater than or equal to 0 (found -0.1)",
    ),
    (
        "optimizer.schedule=cosine",
        "optimizer.schedule: must hold keys (found 'cosine'); allowed: kind (one of constant, lin",
    ),
    (
        "optimizer.schedule.kind=step",
        "optimizer.schedule.kind: unknown 'step'; allowed: constant, linear, cosine, exponential",
    ),
    (
        "optimizer.schedule={kind: constant, final_factor: 0.1}",
        "optimizer.schedule.final_factor: unknown key (value 0.1); allowed: kind",
    ),
    (
        "optimizer.schedule={kind: linear, final_factor: 1.5}",
        "optimizer.schedule.final_factor: must be less than or equal to 1 (found 1.5)",
    ),
    (
        "optimizer.schedule={kind: cosine, final_factor: .nan}",
        "optimizer.schedule.final_factor: must be a finite number (found nan)",
    ),
    (
        "optimizer.schedule={kind: exponential, final_factor: 0}",
        "optimizer.schedule.final_factor: must be greater than 0 (found 0)",
    ),
    (
        "optimizer.schedule={kind: linear, decay_steps: 0}",
        "optimizer.schedule.decay_steps: must be greater than or equal to 1 (found 0)",
    ),
    (
        "optimizer.dense={kind: sgd, learning_rate: 1, beta1: 0.5}",
        "optimizer.dense.beta1: unknown key (value 0.5); allowed: kind, learning_rate",
    ),
    ("model.dropout=1", "model.dropout: must be less than 1 (found 1)"),
    (
        "training.best_by=accuracy",
        "training.best_by: 'accuracy' is no number of an evaluation; allowed: mean_auc, auc:TASK, ",
    ),
    (
        "training.best_by='auc:'",
        "training.best_by: 'auc:' is no number of an evaluation; ",
    ),
    (
        "training.best_by=log_loss:wish",
        "training.best_by is log_loss:wish, and data.labels has no task 'wish'; its tasks: purchas",
    ),
    (
        "training.best_by=mean_auc",
        "training.best_by compares evaluations, and without training.evaluation_interval_steps the",
    ),
    (
        "training.patience_evaluations=3",
        "training.patience_evaluations counts evaluations without improvement, and training.best_b",
    ),
    (
        "training.patience_evaluations=0",
        "training.patience_evaluations: must be greater than or equal to 1 (found 0)",
    ),
    (
        "training.checkpoints_kept=0",
        "training.checkpoints_kept: must be greater than or equal to 1 (found 0)",
    ),
    ("model.bottom_hidden_sizes=[]", "model.bottom_hidden_sizes: must not be empty (found [])"),
    ("model.bottom_hidden_sizes=5", "model.bottom_hidden_sizes: must be a list (found 5)"),
    (
        "model.bottom_hidden_sizes=[0]",
        "model.bottom_hidden_sizes.0: must be greater than or equal to 1 (found 0)",
    ),
    (
        "method=gradops",
        "method: must hold keys (found 'gradops'); allowed: kind (one of uniform, gradops, ",
    ),
    (
        "method={alpha: 1}",
        "method: needs the key kind, one of uniform, gradops, gradops_static, dw, ",
    ),
    (
        "method.kind=nash",
        "method.kind: unknown 'nash'; allowed: uniform, gradops, gradops_static, d",
    ),
    ("method.alfa=1", "method.alfa: unknown key (value 1); did you mean alpha? allowed: kind, "),
    ("metrics.port=70000", "metrics.port: 70000 is no port from 0 to 65535 and no range"),
    ("metrics.port=9420-9400", "metrics.port: '9420-9400' is no port from 0 to 65535 and no"),
    ("metrics.port=1.5", "metrics.port: 1.5 is no port from 0 to 65535 and no range"),
    ("data.on_error=ignore", "data.on_error: must be 'fail' or 'skip' (found 'ignore')"),
    ("data.features={}", "data.features: must not be empty (found {})"),
    ("data.features=[a]", "data.features: must hold keys (found ['a']); allowed: a name and "),
    ("data.labels={}", "data.labels: must not be empty (found {})"),
    ("data.labels.a-b=x", "data.labels.a-b: 'a-b' cannot be a name; allowed: letters, digits and"),
    ("data.features.1a={kind: dense}", "data.features.1a: '1a' cannot be a name; allowed: "),
    (
        "data.features.x={kind: dens}",
        "data.features.x.kind: unknown 'dens'; allowed: id, dense, one_hot",
    ),
    *(
        (
            f"data.features.x={{kind: one_hot, vocabulary: {given}}}",
            f"data.features.x.vocabulary: {said}",
        )
        for given, said in (
            ("[]", "must not be empty; name the values that have an input of their own"),
            ("null", "must be a list of strings or integers (found None)"),
            ("abc", "must be a list of strings or integers (found 'abc')"),
            ("[yes, no]", "holds True; put texts that YAML reads so (yes, no) in quotes"),
            ("[a, null]", "holds null, which has an input of its own without being named"),
            ("[1.5]", "holds 1.5; give strings or integers"),
            ("[[a]]", "holds ['a']; give strings or integers"),
            ("[a, 1]", "holds 'a' and 1; give strings alone or integers alone, as the column has"),
            ("[1, 01]", "names 1 2 times; name each value once"),
            ("[9223372036854775808]", "holds 9223372036854775808, which has more than 64 bits"),
            (list(range(4097)), "has 4,097 values, and 4,096 is the most, as each is an input of"),
        )
    ),
    ("data.features.x={kind: one_hot}", "data.features.x.vocabulary: is missing; add it"),
    (
        "data.features.x={kind: one_hot, vocabulary: [a], rows: 3}",
        "data.features.x.rows: unknown key (value 3); allowed: kind, column, vocabulary",
    ),
    (
        "data.features.x={kind: one_hot, column: cart, vocabulary: [0, 1]}",
        "data.features.x reads column 'cart', the label of task 'cart'",
    ),
    ("data.features.item.embedding_dim=6", "data.features.item.embedding_dim: must be a multiple"),
    (
        "data.features.item.rows=4294967296",
        "data.features.item.rows: must be less than 4294967296 (found 4294967296)",
    ),
    (
        "data.features.item.row=6",
        "data.features.item.row: unknown key (value 6); did you mean rows",
    ),
    ("data.features.x={kind: id}", "data.features.x: needs `rows` and `embedding_dim`, or the "),
    (
        "data.features.x={kind: id, table: item, rows: 3}",
        "data.features.x: `table` shares another feature's table, so `rows` and `embedding_dim`",
    ),
    (
        "data.features.x={kind: id, table: nope}",
        "data.features.x.table is 'nope', which has no table of its own; allowed: item",
    ),
    ("data.features.x={kind: id, table: x}", "data.features.x.table is 'x', which has no table"),
    ("data.features.x={kind: id, table: price}", "data.features.x.table is 'price', which has no"),
    (
        "data.features.buy={kind: dense}",
        "data.features.buy reads column 'buy', the label of task 'purchase'; a feature must not",
    ),
    ("data.features.price.column=cart", "data.features.price reads column 'cart', the label of"),
    ("data.labels.wish=buy", "data.labels: purchase and wish name the same column and count"),
    (
        "data.labels.wish={column: buy, loss_weight: 2}",
        "data.labels: purchase and wish name the same column and count its rows alike",
    ),
    (
        "data.labels.wish=3",
        "data.labels.wish: must be the name of a column, or hold keys (found 3); allowed: column, ",
    ),
    ("data.labels.wish={sample_weight: w}", "data.labels.wish.column: is missing; add it"),
    (
        "data.labels.wish={column: wish, weight: w}",
        "data.labels.wish.weight: unknown key (value 'w'); did you mean ",
    ),
    (
        "data.labels.wish={column: wish, loss_weight: 0}",
        "data.labels.wish.loss_weight: must be greater than 0 (found 0)",
    ),
    (
        "data.labels.wish={column: wish, event_time: t}",
        "data.labels.wish: event_time does nothing without a window; add one such as",
    ),
    (
        "data.labels.wish={column: wish, window: 3d}",
        "data.labels.wish: window needs an event_time; name the column",
    ),
    *(
        (
            f"data.labels.wish={{column: wish, event_time: t, window: {window}}}",
            f"data.labels.wish.window: {found} is no length of time; write whole minutes, hours or",
        )
        for window, found in {"3": "3", "3w": "'3w'", "1.5h": "'1.5h'", "0d": "'0d'"}.items()
    ),
    (
        "data.labels.wish={column: wish, only_where: wish}",
        "data.labels.wish: only_where is 'wish', the label itself, so that rows would count by",
    ),
    (
        "data.labels.wish={column: wish, sample_weight: price}",
        "data.features.price reads column 'price', the sample_weight of task 'wish', which may",
    ),
    (
        "cluster.num_workers=9",
        "cluster.num_workers is 9, more than the lanes that workers share out (data.lanes is 8); "
        "take at most 8, or more lanes for a new run",
    ),
    (
        "training.global_batch_size=61",
        "training.global_batch_size is 61, which data.lanes (8) does not divide; the nearest that "
        "fits is 64",
    ),
    (
        "sharding.item={kind: column_wise, columns_per_shard: 4}",
        "sharding.item.kind is column_wise, where rowwise_adagrad would keep one state per column "
        "shard",
    ),
    ("sharding.shop={kind: table_wise}", "sharding.shop names no table; the features that own one"),
    ("sharding.item={kind: data_parallel}", "sharding.item: kind is data_parallel, where each"),
    ("sharding.item={kind: column_wise}", "sharding.item: columns_per_shard is the width of one"),
    ("sharding.item={columns_per_shard: 4}", "sharding.item: columns_per_shard is the width"),
    (
        "sharding.item={kind: column_wise, columns_per_shard: 6}",
        "sharding.item: columns_per_shard is 6; it must be a multiple of 4",
    ),
    (
        "sharding.item={kind: column_wise, columns_per_shard: 12}",
        "sharding.item.columns_per_shard is 12, which does not divide the table's embedding_dim",
    ),
    (
        "gradients.refresh_interval_steps=0",
        "gradients.refresh_interval_steps: must be greater",
    ),
    (
        "gradients={space: representation, refresh_interval_steps: 8}",
        "gradients: refresh_interval_steps is 8 and space is representation, whose coefficients",
    ),
    ("run.name=!!set {a}", "holds a value that is no text, number or list: Object of type set"),
    ("run.name", "--set run.name: write it as a.b=value"),
    ("=3", "--set =3: write it as a.b=value"),
    ("run.name.x=3", "--set run.name.x=3: run.name is 'demo', which holds no keys"),
    ("run.seed=[1", "--set run.seed=[1: the value is not YAML: while parsing a flow sequence"),
    (
        "run={seed: 1, seed: 2}",
        "--set run={seed: 1, seed: 2}: the value is not YAML: the key 'seed'",
    ),
]


@pytest.mark.parametrize(("override", "expected"), REFUSALS, ids=[o[:99] for o, _ in REFUSALS])
def test_a_wrong_value_is_refused_in_one_sentence_with_its_path(
    run_yaml: Path, override: str, expected: str
) -> None:
    lines = refusal(run_yaml, override)
    assert len(lines) == 1
    assert lines[0].startswith(expected)


def test_every_error_of_a_file_is_told_at_once(run_yaml: Path) -> None:
    lines = refusal(run_yaml, "run.seed=-1", "model.dropout=2", "trainin=1")
    assert [line.partition(":")[0] for line in lines] == ["run.seed", "model.dropout", "trainin"]


def test_a_long_value_is_cut_in_the_message(run_yaml: Path) -> None:
    (line,) = refusal(run_yaml, f"run={'x' * 1000}")
    assert len(line) < 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty or no mapping; it needs the keys run, data, model, method, gradie"),
        ("[1]", "is empty or no mapping; it needs the keys run"),
        (SMALLEST + "run: {name: x}\n", "is not valid YAML: the key 'run' stands twice; keep one"),
        (SMALLEST.replace("demo}", "demo, name: x}"), "is not valid YAML: the key 'name' stands"),
        (SMALLEST + "on: 3\n", "is not valid YAML: the key 'on' is read as bool; put it in quotes"),
        (SMALLEST + "1: 3\n", "is not valid YAML: the key '1' is read as int; put it in quotes"),
        (SMALLEST + "? [a, b]\n: 3\n", "is not valid YAML: while constructing a mapping"),
        (SMALLEST + "\ta: 3\n", "is not valid YAML: while scanning"),
        (SMALLEST + "x: *nope\n", "is not valid YAML: found undefined alias 'nope' at line "),
        (SMALLEST + "---\na: 1\n", "is not valid YAML: expected a single document"),
        (SMALLEST + "x: &x [*x]\n", "holds a value that is no text, number or list: Circular"),
        (SMALLEST + "x: !!python/object:os.system {}\n", "is not valid YAML: could not determine"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = write_run(tmp_path, text)
    (line,) = refusal(path)
    assert line.startswith(expected)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("run: {name: é}".encode("latin-1"))
    for path in (tmp_path / "none.yaml", tmp_path, latin):
        (line,) = refusal(path)
        assert line.startswith("cannot be read (")
        assert line.endswith("give the path of a run's YAML")


def test_missing_sections_are_named(tmp_path: Path) -> None:
    path = write_run(tmp_path, "run: {name: demo}")
    assert refusal(path) == [f"{key}: is missing; add it" for key in ("data", "method", "training")]


ANCHORS = """\
run: {name: demo}
data:
  train: a
  eval: b
  features:
    base: &base {kind: id, rows: 10, embedding_dim: 4}
    nested: &nested {<<: *base, rows: 20}
    same: *base
    both: {<<: *nested, embedding_dim: 8}
  labels: {purchase: buy}
method: {kind: gradops}
training: {global_batch_size: 64}
"""


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    path = write_run(tmp_path, ANCHORS)
    sizes = {n: (f.rows, f.embedding_dim) for n, f in load_config(path).data.id_features()}
    assert sizes == {"base": (10, 4), "nested": (20, 4), "same": (10, 4), "both": (20, 8)}


def test_a_merge_into_a_mapping_above_makes_no_duplicate_key(tmp_path: Path) -> None:
    # A mapping with a merged and then repeated key is itself merged higher up in the tree.
    deep = "price: &deep {<<: &dense {kind: dense}, kind: dense}"
    text = SMALLEST.replace("price: {kind: dense}", deep)
    text = text.replace("method: {kind", "method: {<<: *deep, kind")
    assert load_config(write_run(tmp_path, text)).method.kind == "gradops"


def test_an_override_changes_no_alias_of_its_mapping(tmp_path: Path) -> None:
    path = write_run(tmp_path, ANCHORS)
    config = load_config(path, ("data.features.same.rows=30",))
    assert {n: f.rows for n, f in config.data.id_features()} == {
        "base": 10,
        "nested": 20,
        "same": 30,
        "both": 20,
    }
