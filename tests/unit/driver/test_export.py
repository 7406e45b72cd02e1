"""What an export writes, and what keeps one from being written: then there is nothing."""

import resource
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from recsys_mtl.cli import main
from recsys_mtl.config import UserError
from recsys_mtl.distributed.alone import alone
from recsys_mtl.driver.export import export_run
from recsys_mtl.model.bodies.contract import BodyInputs, BodyShape, DropoutMasks
from recsys_mtl.model.bodies.shared_bottom import SharedBottom
from recsys_mtl.serving import Scorer
from tests.unit.data.click_logs import fresh_generator
from tests.unit.serving.served import Trained, log_rows, train


@pytest.fixture(autouse=True, scope="module")
def _one_worker() -> Iterator[None]:
    with alone("cpu", num_threads=1, timeout_seconds=60):
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("trained"), log_rows(100, fresh_generator()))


def export(trained: Trained, out: Path, *options: str) -> object:
    """The exit status of the command."""
    with pytest.raises(SystemExit) as ended:
        main(["export", trained.url, "--out", str(out), *options])
    return ended.value.code


def assert_scores_as_trained(trained: Trained, bundle: Path) -> None:
    log = log_rows(50, fresh_generator())
    for task, found in Scorer.load(bundle).score(log).items():
        expected = trained.probabilities(log)[task]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


class CentredBottom(SharedBottom):
    """A body of one's own: what it reads is centred by a parameter."""

    def __init__(self, shape: BodyShape) -> None:
        super().__init__(shape, (8,))
        self.centre = torch.nn.Parameter(torch.full((shape.dense_columns,), 0.2))

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        centred = BodyInputs(inputs.pooled, inputs.dense - self.centre)
        return super().representation(centred, masks)

    def shared_parameters(self) -> dict[str, torch.nn.Parameter]:
        return super().shared_parameters() | {"centre": self.centre}

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return super().shared_layers() | {"centre": ("centre",)}

    def trunk(self, inputs: BodyInputs, masks: DropoutMasks) -> object:  # type: ignore[override]
        return super(SharedBottom, self).trunk(inputs, masks)


class BatchCentredBottom(CentredBottom):
    """It scores a row by the rows beside it."""

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        dense = inputs.dense - inputs.dense.mean(dim=0)
        return super().representation(BodyInputs(inputs.pooled, dense), masks)


class BranchingBottom(CentredBottom):
    """Its forward depends on a value in a way that no program can hold."""

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        if inputs.dense.sum() > 0:
            return super().representation(inputs, masks)
        return super().representation(BodyInputs(-inputs.pooled, inputs.dense), masks)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.body={kind: mmoe, experts: 3, expert_hidden_sizes: [8, 4]}"],
        ["model.body={kind: ple, shared_experts: 2, expert_hidden_sizes: [8, 4]}"],
        ["model.task_specific_layers=[bottom.layers.1]"],
        ["data.features={price: {kind: dense, transform: log1p}, stars: {kind: dense}}"],
        ["data.features={city: {kind: id, rows: 60, embedding_dim: 4}}"],
    ],
)
def test_every_body_and_kind_of_input_is_exported(tmp_path: Path, overrides: list[str]) -> None:
    trained = train(tmp_path, log_rows(60, fresh_generator()), *overrides)
    assert export(trained, tmp_path / "bundle") == 0
    assert_scores_as_trained(trained, tmp_path / "bundle")


def test_a_body_of_one_s_own_is_exported_from_python(tmp_path: Path) -> None:
    trained = train(tmp_path, log_rows(60, fresh_generator()), body=CentredBottom)
    with pytest.raises(UserError, match=r"does not hold the body SharedBottom .*export_run\("):
        export_run(trained.url, str(tmp_path / "bundle"))
    export_run(trained.url, str(tmp_path / "bundle"), body=CentredBottom)
    assert_scores_as_trained(trained, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (BatchCentredBottom, "scores a row otherwise alone than among others"),
        (BranchingBottom, "BranchingBottom cannot be exported .*without branches"),
    ],
)
def test_a_body_that_cannot_be_served_is_refused(
    tmp_path: Path, body: type[CentredBottom], says: str
) -> None:
    trained = train(tmp_path, log_rows(60, fresh_generator()), body=CentredBottom)
    with pytest.raises(UserError, match=says) as caught:
        export_run(trained.url, str(tmp_path / "bundle"), body=body)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_an_empty_folder_is_taken_and_one_with_files_is_refused(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle").mkdir()
    assert export(trained, tmp_path / "bundle") == 0
    assert "run 'served', step 7: 15 features, 6 tables" in capsys.readouterr().out
    before = {file: file.read_bytes() for file in (tmp_path / "bundle").glob("*.*")}
    assert export(trained, tmp_path / "bundle") == 2
    assert "bundle holds files already; give a folder" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in (tmp_path / "bundle").glob("*.*")}
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_goes_to_an_object_store_and_is_served_from_a_copy(
    trained: Trained, tmp_path: Path
) -> None:
    export_run(trained.url, "memory://models/bundle")
    fsspec.filesystem("memory").get("/models/bundle/", str(tmp_path / "copy"), recursive=True)
    assert_scores_as_trained(trained, tmp_path / "copy")
    with pytest.raises(UserError, match="models/bundle holds files already"):
        export_run(trained.url, "memory://models/bundle")


def test_examples_are_the_log_s_first_rows_and_the_edges(trained: Trained, tmp_path: Path) -> None:
    log = log_rows(30, fresh_generator()).drop_columns(["buy", "cart"])
    pq.write_table(log.slice(0, 0), tmp_path / "empty.parquet")
    pq.write_table(log, tmp_path / "full.parquet")
    assert export(trained, tmp_path / "bundle", "--examples", str(tmp_path)) == 0
    examples = pq.read_table(tmp_path / "bundle" / "examples.parquet")
    columns = [name for name in examples.column_names if not name.startswith("probability_")]
    rows = examples.select(columns).to_pylist()
    assert rows[:30] == log.select(columns).to_pylist()
    nulls = dict.fromkeys(columns)
    assert rows[30:] == [nulls, nulls | {"recent": [], "seen": [], "tags": []}]
    for task, expected in trained.probabilities(examples).items():
        found = examples[f"probability_{task}"].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_examples_that_cannot_be_had_are_refused(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = log_rows(30, fresh_generator())
    words = pa.array(["7"] * 30)
    bad = {
        "holds no rows for the bundle's examples": log.slice(0, 0),
        "column 'city' is missing in": log.drop_columns(["city"]),
        "column 'item' holds string": log.set_column(1, "item", words),
    }
    for place, (says, table) in enumerate(bad.items()):
        pq.write_table(table, tmp_path / f"{place}.parquet")
        options = ("--examples", str(tmp_path / f"{place}.parquet"))
        assert export(trained, tmp_path / "bundle", *options) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1
    assert export(trained, tmp_path / "bundle", "--examples", str(tmp_path / "nowhere")) == 2
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
def test_a_damaged_checkpoint_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    trained = train(tmp_path, log_rows(60, fresh_generator()))
    file = Path(trained.url) / "checkpoint" / name
    for damage in (lambda: file.write_bytes(file.read_bytes()[:300]), file.unlink):
        damage()
        assert export(trained, tmp_path / "bundle") == 2
        said = capsys.readouterr().err
        assert f"the checkpoint checkpoint in {trained.url} is damaged" in said
        assert said.count("\n") == 1
        assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("features", [[], ["data.features.user.rows=20000"]])
def test_an_export_without_room_is_refused_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], features: list[str]
) -> None:
    trained = train(tmp_path, log_rows(60, fresh_generator()), *features)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The largest file that this process may write: less than the network, or a table, is long.
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        status = export(trained, tmp_path / "out" / "bundle")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 2
    assert "bundle cannot be written ([Errno 27] File too large" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_products_in_bfloat16_become_float32_and_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = log_rows(60, fresh_generator())
    trained = train(tmp_path, log, "training.precision=bfloat16")
    assert export(trained, tmp_path / "bundle") == 0
    assert "products in bfloat16; the bundle's are float32" in capsys.readouterr().out
    scorer = Scorer.load(tmp_path / "bundle")
    assert scorer.bundle.run.precision == "bfloat16"
    for task, found in scorer.score(log).items():
        difference = np.abs(found - trained.probabilities(log)[task])
        assert 0 < difference.max() < 0.01


def test_tables_of_float16_take_half_and_are_summed_in_float32(tmp_path: Path) -> None:
    features = (
        "data.features={recent: {kind: id, rows: 4000, embedding_dim: 16, pooling: mean}, "
        "viewed: {kind: id, table: recent, column: seen}}"
    )
    log = log_rows(60, fresh_generator())
    trained = train(tmp_path, log, features)
    tables = trained.model.tables
    assert tables is not None
    (shard,) = tables.state_dict()["tables.recent"].local_shards()
    assert export(trained, tmp_path / "bundle", "--tables", "float16") == 0
    stored = np.load(tmp_path / "bundle" / "tables" / "recent.npy")
    assert stored.dtype == np.float16
    expected = trained.probabilities(log)
    # What float32 gives for the very numbers that float16 holds.
    shard.tensor.copy_(shard.tensor.half().float())
    rounded = trained.probabilities(log)
    for task, found in Scorer.load(tmp_path / "bundle").score(log).items():
        np.testing.assert_allclose(found, rounded[task], rtol=0, atol=1e-6)
        assert 0 < np.abs(found - expected[task]).max() < 1e-4


def test_numbers_too_large_for_float16_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = "data.features={item: {kind: id, rows: 30, embedding_dim: 4}}"
    trained = train(tmp_path, log_rows(60, fresh_generator()), features, first_number=1e5)
    assert export(trained, tmp_path / "bundle", "--tables", "float16") == 2
    assert "table of 'item' holds numbers that are too large" in capsys.readouterr().err
    assert export(trained, tmp_path / "bundle") == 0


def test_a_column_with_the_name_of_a_probability_is_refused(tmp_path: Path) -> None:
    features = "data.features={price: {kind: dense, column: probability_cart}}"
    log = log_rows(60, fresh_generator()).rename_columns({"price": "probability_cart"})
    trained = train(tmp_path, log, features)
    with pytest.raises(UserError, match="reads a column 'probability_cart'"):
        export_run(trained.url, str(tmp_path / "bundle"))


def test_a_run_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "nothing"), "--out", str(tmp_path / "bundle")])
    assert ended.value.code == 2
    assert "nothing is no run's folder" in capsys.readouterr().err
