"""The synthetic click log: its shape on disk, its determinism, its truth and its demo run."""

import json
import secrets
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from pipelines.synthetic_clicks import auc, dense_values, main, write_click_log
from pipelines.synthetic_tasks import TASK_RATES, TASKS, TaskRelation
from pipelines.synthetic_world import (
    CROSSINGS,
    DENSE_COLUMNS,
    ID_COLUMNS,
    Clicks,
    World,
    build_world,
    draw_clicks,
    generator,
    logit_parts,
    probabilities_of,
)
from recsys_mtl.config.file import load_config

DEMO = Path(__file__).parents[3] / "pipelines" / "runs" / "demo.yaml"


@pytest.fixture
def seed() -> int:
    drawn = secrets.randbelow(2**31)
    print(f"seed {drawn}")
    return drawn


@pytest.fixture(scope="module")
def drawn() -> tuple[World, Clicks]:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    world = build_world(seed)
    return world, draw_clicks(world, generator(seed, "train"), 20_000)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One log for the tests that only read."""
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    out = tmp_path_factory.mktemp("log")
    write_click_log(out, rows=20_000, eval_rows=5_000, seed=seed, files=3, row_group_rows=2_500)
    return out


def small_log(out: Path, seed: int, rows: int = 300) -> Path:
    write_click_log(out, rows=rows, eval_rows=200, seed=seed, files=2, row_group_rows=100)
    return out


def test_log_has_the_asked_rows_files_and_row_groups(log: Path) -> None:
    for split, rows in (("train", 20_000), ("eval", 5_000)):
        footers = [pq.read_metadata(part) for part in sorted((log / split).iterdir())]
        assert len(footers) == 3
        assert sum(footer.num_rows for footer in footers) == rows
        counts = [footer.num_rows for footer in footers]
        assert max(counts) - min(counts) <= 1
        for footer in footers:
            sizes = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
            assert all(size == 2_500 for size in sizes[:-1])
            assert 0 < sizes[-1] <= 2_500
            assert footer.row_group(0).column(0).compression == "ZSTD"


def test_log_holds_46_features_and_three_binary_labels(log: Path) -> None:
    table = pq.read_table(log / "train")
    assert table.num_columns == 46 + 3
    for task in TASKS:
        assert table[task].type == pa.int8()
        assert set(table[task].unique().to_pylist()) == {0, 1}


def test_ids_stay_below_their_cardinality_and_nulls_have_their_share(log: Path) -> None:
    table = pq.read_table(log / "train")
    for column in (*ID_COLUMNS, *DENSE_COLUMNS):
        share = table[column.name].null_count / table.num_rows
        assert share == pytest.approx(column.null_share, abs=0.02)
        assert (share > 0) == (column.null_share > 0)
    for column in ID_COLUMNS:
        values = table[column.name].drop_null()
        if column.vocabulary:
            assert set(values.unique().to_pylist()) <= set(column.vocabulary)
        else:
            ids = values.to_numpy()
            assert ids.min() >= 0
            assert ids.max() < column.cardinality


def test_an_owned_column_is_a_function_of_its_owner(log: Path) -> None:
    table = pq.read_table(log / "train")
    for column in (*ID_COLUMNS, *DENSE_COLUMNS):
        if column.owner is None:
            continue
        pairs = table.select([column.owner, column.name]).to_pandas().dropna()
        assert pairs.groupby(column.owner)[column.name].nunique().max() == 1


def test_recent_categories_vary_in_length_and_begin_alike_for_one_user(log: Path) -> None:
    table = pq.read_table(log / "train", columns=["user_id", "recent_categories"])
    longest: dict[int, list[int]] = {}
    lengths = set()
    for user, recent in zip(*(column.to_pylist() for column in table.columns), strict=True):
        lengths.add(len(recent))
        known = longest.setdefault(user, recent)
        shared = min(len(known), len(recent))
        assert known[:shared] == recent[:shared]
        longest[user] = max(known, recent, key=len)
    assert lengths == {0, 1, 2, 3, 4, 5}


def test_equal_arguments_give_equal_bytes(tmp_path: Path, seed: int) -> None:
    first, second = (small_log(tmp_path / name, seed) for name in ("first", "second"))
    for split in ("train", "eval"):
        for part in (first / split).iterdir():
            assert part.read_bytes() == (second / split / part.name).read_bytes()
    assert (first / "truth.json").read_bytes() == (second / "truth.json").read_bytes()


def test_other_seeds_splits_and_row_groups_hold_other_rows(tmp_path: Path, seed: int) -> None:
    first = small_log(tmp_path / "first", seed)
    second = small_log(tmp_path / "second", seed + 1)
    part = pq.ParquetFile(first / "train" / "part-00000.parquet")
    blocks = [
        part.read_row_group(0),
        pq.ParquetFile(first / "train" / "part-00001.parquet").read_row_group(0),
        pq.ParquetFile(first / "eval" / "part-00000.parquet").read_row_group(0),
        pq.ParquetFile(second / "train" / "part-00000.parquet").read_row_group(0),
    ]
    sessions = [block["session_seconds"].to_pylist() for block in blocks]
    sessions.append(part.read_row_group(1)["session_seconds"].to_pylist())
    for index, values in enumerate(sessions):
        for other in sessions[index + 1 :]:
            assert len(set(values) & set(other)) <= 1  # two float32 may meet by chance


def test_a_new_log_leaves_nothing_of_the_old_one(tmp_path: Path, seed: int) -> None:
    write_click_log(tmp_path, rows=500, eval_rows=100, seed=seed, files=5, row_group_rows=100)
    small_log(tmp_path, seed + 1)
    assert sorted(part.name for part in (tmp_path / "train").iterdir()) == [
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    assert pq.read_table(tmp_path / "train").num_rows == 300
    assert json.loads((tmp_path / "truth.json").read_text())["seed"] == seed + 1


def test_an_interrupted_log_has_no_truth(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_log(tmp_path, seed)

    def interrupt(*_: object) -> World:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.synthetic_clicks.build_world", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small_log(tmp_path, seed)
    assert not (tmp_path / "truth.json").exists()


def test_label_rates_are_those_promised(drawn: tuple[World, Clicks]) -> None:
    rates = probabilities_of(*drawn).mean(axis=0)
    assert rates == pytest.approx(list(TASK_RATES.values()), rel=0.1)


def test_a_null_moves_no_logit(drawn: tuple[World, Clicks]) -> None:
    world, clicks = drawn
    parts = dict(logit_parts(world.effects, clicks))
    for name, missing in clicks.nulls.items():
        assert not parts[name][missing].any(), name
        assert parts[name][~missing].any(), name


def test_every_id_column_moves_the_logits_by_its_logit_std(drawn: tuple[World, Clicks]) -> None:
    world, clicks = drawn
    promised = {column.name: column.logit_std for column in ID_COLUMNS}
    promised |= {f"{left} x {right}": std for left, right, std in CROSSINGS}
    measured = {name: part.std(axis=0) for name, part in logit_parts(world.effects, clicks)}
    for name, logit_std in promised.items():
        assert measured[name] == pytest.approx([logit_std] * len(TASKS), rel=0.15), name


def test_wish_pulls_against_purchase(drawn: tuple[World, Clicks]) -> None:
    probabilities = probabilities_of(*drawn)
    logits = np.log(probabilities / (1 - probabilities))
    correlation = np.corrcoef(logits, rowvar=False)
    purchase, cart, wish = (TASKS.index(task) for task in ("purchase", "cart", "wish"))
    assert correlation[purchase, wish] < -0.2
    assert correlation[purchase, cart] > correlation[cart, wish]


@pytest.mark.parametrize("correlation", [0.9, 0.0, -0.45])
def test_tasks_depend_on_columns_as_alike_as_asked_and_are_as_rare(
    correlation: float, seed: int
) -> None:
    rates = (0.2, 0.04, 0.01)
    world = build_world(seed, TaskRelation(correlation, rates))
    probabilities = probabilities_of(world, draw_clicks(world, generator(seed, "train"), 20_000))
    assert probabilities.mean(axis=0) == pytest.approx(rates, rel=0.15)
    logits = np.log(probabilities / (1 - probabilities))
    found = np.corrcoef(logits, rowvar=False)[np.triu_indices(len(TASKS), 1)]
    # Few columns carry most of it, so a pair's is up to 0.31 off in 120 worlds; their mean is less.
    assert found.mean() == pytest.approx(correlation, abs=0.31)


def test_the_knobs_stand_in_the_truth_of_a_log_that_has_them(tmp_path: Path) -> None:
    shape = ["--rows", "100", "--seed", "1", "--eval-rows", "2000"]
    knobs = ["--task-correlation", "-0.4", "--rates", "0.2,0.1,0.05"]
    main(["--out", str(tmp_path), *shape, *knobs])
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert (truth["correlation"], truth["rates"]) == (-0.4, [0.2, 0.1, 0.05])
    positives = [pq.read_table(tmp_path / "eval")[task].to_numpy().mean() for task in TASKS]
    assert positives == pytest.approx((0.2, 0.1, 0.05), abs=0.04)


def test_truth_is_the_auc_of_probabilities_that_the_eval_labels_were_drawn_from(
    log: Path,
) -> None:
    truth = json.loads((log / "truth.json").read_text())
    assert (truth["rows"], truth["eval_rows"]) == (20_000, 5_000)
    # The parts are drawn anew, row group by row group, from the seed alone: files of 1667, 1667
    # and 1666 rows, each one row group.
    world = build_world(truth["seed"])
    probabilities = np.concatenate(
        [
            probabilities_of(world, draw_clicks(world, generator(truth["seed"], "eval", i), rows))
            for i, rows in enumerate((1667, 1667, 1666))
        ]
    )
    labels = pq.read_table(log / "eval")
    for index, task in enumerate(TASKS):
        score = roc_auc_score(labels[task].to_numpy(), probabilities[:, index])
        assert truth["tasks"][task]["auc"] == pytest.approx(score, abs=1e-12)
        assert 0.75 < score < 0.92


@pytest.mark.parametrize("levels", [2, 50, 10**9])
def test_auc_agrees_with_scikit_learn_also_on_ties(levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, 2_000) / levels
    labels = rng.random(2_000) < 0.1 + 0.3 * scores
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("label", [False, True])
def test_auc_of_one_class_is_none(label: bool) -> None:
    assert auc(np.array([0.1, 0.2]), np.array([label, label])) is None


def test_command_line_writes_a_fifth_as_eval_rows_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--out", str(tmp_path), "--rows", "500", "--seed", "3", "--row-group-rows", "50"])
    assert pq.read_table(tmp_path / "eval").num_rows == 100
    assert pq.read_metadata(tmp_path / "train" / "part-00000.parquet").num_row_groups == 3
    assert "500 train and 100 eval rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"--rows": "0"}, "--rows: needs a whole number of at least 1, got '0'"),
        ({"--rows": "many"}, "--rows: needs a whole number of at least 1, got 'many'"),
        ({"--seed": "-1"}, "--seed: needs a whole number of at least 0, got '-1'"),
        ({"--files": "0"}, "--files: needs a whole number of at least 1, got '0'"),
        ({"--files": "101"}, "--rows 100 cannot fill 101 files; raise --rows or lower --files"),
        ({"--eval-rows": "3"}, "--eval-rows 3 cannot fill 4 files; raise --eval-rows"),
        ({"--rows": "19"}, "--eval-rows 3 cannot fill 4 files; raise --eval-rows"),
        ({"--rates": "0.1,0.1"}, "rates are (0.1, 0.1); give one between 0 and 1 per task"),
        ({"--rates": "0.1,few,0.1"}, "--rates: needs numbers with commas between, got '0.1,few"),
        ({"--task-correlation": "-0.5"}, "the correlation is -0.5; three tasks can have one above"),
    ],
)
def test_bad_arguments_exit_with_status_2_and_a_sentence(
    changed: dict[str, str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "log"
    options = {"--out": str(out), "--rows": "100", "--seed": "1"} | changed
    with pytest.raises(SystemExit) as caught:
        main([word for option in options.items() for word in option])
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()


def test_an_out_that_is_a_file_exits_with_status_2_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("keep me")
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(out), "--rows", "100", "--seed", "1"])
    assert caught.value.code == 2
    assert f"--out {out} cannot be written" in capsys.readouterr().err
    assert out.read_text() == "keep me"


def test_demo_run_is_a_valid_configuration() -> None:
    assert [*load_config(DEMO).data.labels] == list(TASKS)


def test_demo_run_names_every_column_of_the_log_once(log: Path) -> None:
    data = yaml.safe_load(DEMO.read_text())["data"]
    columns = [feature.get("column", name) for name, feature in data["features"].items()]
    columns += data["labels"].values()
    assert sorted(columns) == sorted(pq.read_schema(log / "train" / "part-00000.parquet").names)


def test_demo_tables_hold_every_id_and_list_the_right_kind(log: Path) -> None:
    features = yaml.safe_load(DEMO.read_text())["data"]["features"]
    for column in ID_COLUMNS:
        feature = features[column.name]
        assert feature["kind"] == "id"
        table = features[feature.get("table", column.name)]
        assert table["rows"] >= column.cardinality
    assert features["recent_categories"]["table"] == "category_id"


def test_demo_transformations_leave_dense_features_standardised(seed: int) -> None:
    features = yaml.safe_load(DEMO.read_text())["data"]["features"]
    normals = np.random.default_rng(seed).standard_normal(100_000)
    for column in DENSE_COLUMNS:
        feature = features[column.name]
        assert feature["kind"] == "dense"
        values = dense_values(column, normals)
        if feature.get("transform") == "log1p":
            values = np.sign(values) * np.log1p(np.abs(values))
        standardised = (values - feature["mean"]) / feature["std"]
        assert abs(standardised.mean()) < 0.1, column.name
        assert standardised.std() == pytest.approx(1, abs=0.1), column.name
