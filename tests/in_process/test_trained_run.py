"""What one does with a run that has trained: judge it, score with it. In this process."""

import json
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor

from recsys_mtl.cli import main
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.evaluate import evaluate
from recsys_mtl.driver.launch import launch
from recsys_mtl.driver.predict import predict
from recsys_mtl.model.bodies.contract import BodyShape, DropoutMasks
from recsys_mtl.model.bodies.shared_bottom import SharedBottom
from tests.end_to_end.runs import command_line, wait_until

TASKS = ("purchase", "cart")
KEPT = [word for name in ("user", "place", *TASKS) for word in ("--keep", name)]
BFLOAT16 = "training.precision=bfloat16"
FIRST = ["--checkpoint", "local_checkpoint_000001"]
RUN = """
run: {{name: {run}, storage_path: {folder}/runs, seed: 5}}
data:
  train: {train}
  eval: {folder}/eval
  lanes: 4
  features:
    user: {{kind: id, rows: 300, embedding_dim: 4}}
    items: {{kind: id, rows: 80, embedding_dim: 8, pooling: mean}}
    price: {{kind: dense}}
    place: {{kind: one_hot, vocabulary: [south, north]}}
  labels: {{purchase: purchase, cart: cart}}
model: {{bottom_hidden_sizes: [16, 8]}}
method: {{kind: gradops}}
optimizer: {{dense: {{kind: adam, learning_rate: 0.02}}}}
training: {{global_batch_size: 64, epochs: 2}}
cluster: {{num_workers: 0, device: cpu}}
metrics: {{linger_seconds: 0}}
"""


def clicks(rows: int, seed: int, *, flipped: bool = False) -> pa.Table:
    """Purchases follow the price upwards and carts downwards; users, places and lists are noise."""
    rng = np.random.default_rng(seed)
    price = rng.normal(size=rows)
    labels = {
        task: (sign * price + rng.normal(size=rows) > 1) != flipped
        for task, sign in zip(TASKS, (1, -1), strict=True)
    }
    return pa.table(
        {
            "user": rng.integers(0, 250, rows),
            "place": rng.choice(["north", "south", None], rows),
            "items": [rng.integers(0, 80, size).tolist() for size in rng.integers(0, 4, rows)],
            "price": price.astype(np.float32),
            **{task: values.astype(np.int8) for task, values in labels.items()},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs, and runs: `good`, and `flipped`, which was trained on labels turned round."""
    made = tmp_path_factory.mktemp("trained")
    (made / "eval").mkdir()
    for part in range(3):
        rows = clicks(700 + part, seed=part)
        pq.write_table(rows, made / "eval" / f"part-{part}.parquet", row_group_size=300)
    empty = made / "eval" / "part-3.parquet"
    pq.write_table(clicks(1, seed=9).slice(0, 0), empty)
    for run in ("good", "flipped"):
        train = made / f"{run}.parquet"
        pq.write_table(clicks(3000, seed=7, flipped=run == "flipped"), train, row_group_size=500)
        (made / f"{run}.yaml").write_text(RUN.format(run=run, folder=made, train=train))
        launch(load_config(made / f"{run}.yaml"))
    # One run that has only begun, one of other tasks, and a log without a feature.
    config = load_config(made / "good.yaml", ("run.name=other", "data.labels={purchase: cart}"))
    launch(config)
    (made / "runs" / "begun").mkdir()
    (made / "runs" / "begun" / "config.yaml").write_text(config.to_yaml())
    pq.write_table(clicks(10, seed=1).drop_columns(["price"]), made / "unpriced.parquet")
    table = clicks(10, seed=1)
    words = table.set_column(0, "user", table["user"].cast(pa.string()))
    pq.write_table(words, made / "words.parquet")
    (made / "link").symlink_to(made / "eval")
    launch(load_config(made / "good.yaml", ("run.name=own", "training.epochs=1")), body=own_bottom)
    return made


class OwnBottom(SharedBottom):
    """Another network with the parameters of a shared bottom."""

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        return -super().logits(representation, task, masks)


def own_bottom(shape: BodyShape) -> OwnBottom:
    return OwnBottom(shape, [16, 8])


@pytest.fixture(scope="module")
def predicted(folder: Path) -> pd.DataFrame:
    """Labels and user beside the probabilities of the evaluation log, in its order of rows."""
    keep = ("user", "place", *TASKS)
    found = predict(f"{folder}/runs/good", f"{folder}/eval", f"{folder}/out", keep=keep)
    log = pq.read_table(folder / "eval").to_pandas()
    assert (found["files"], found["rows"]) == (4, len(log))
    for part in (folder / "eval").iterdir():
        metadata = pq.read_metadata(folder / "out" / part.name)
        assert metadata.num_rows == pq.read_metadata(part).num_rows
    table = pq.read_table(folder / "out").to_pandas()
    pd.testing.assert_frame_equal(table[list(keep)], log[list(keep)])
    return table


def test_an_evaluation_is_the_run_s_own(folder: Path) -> None:
    own = json.loads((folder / "runs" / "good" / "result.json").read_text())["tasks"]
    found = evaluate(f"{folder}/runs/good")["tasks"]
    other_batch = evaluate(
        f"{folder}/runs/good", overrides=("training.global_batch_size=8", "data.lanes=2")
    )["tasks"]
    for task in TASKS:
        for name in ("auc", "log_loss", "calibration", "positives", "rows"):
            assert found[task][name] == own[task][name]
            assert other_batch[task][name] == pytest.approx(own[task][name], abs=1e-6)


def test_scikit_learn_agrees_on_what_is_predicted(folder: Path, predicted: pd.DataFrame) -> None:
    found = evaluate(f"{folder}/runs/good", group_by="user")["tasks"]
    for task in TASKS:
        labels, scores = predicted[task], predicted[f"probability_{task}"].astype(float)
        assert predicted[f"probability_{task}"].dtype == "float32"
        assert found[task]["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-4)
        assert found[task]["log_loss"] == pytest.approx(log_loss(labels, scores), abs=1e-6)
        assert found[task]["gauc"] == pytest.approx(gauc(predicted, task), abs=1e-4)


def gauc(table: pd.DataFrame, task: str) -> float:
    """By the definition: AUC per user with both classes, weighted by its rows."""
    total, rows = 0.0, 0
    for _, group in table.groupby("user"):
        if group[task].nunique() == 2:
            total += len(group) * float(roc_auc_score(group[task], group[f"probability_{task}"]))
            rows += len(group)
    return total / rows


def test_a_slice_is_what_its_rows_alone_would_be(folder: Path, predicted: pd.DataFrame) -> None:
    found = evaluate(f"{folder}/runs/good", slices=("place",))["slices"]["place"]
    assert set(found) == {"north", "south", "null"}
    for place, tasks in found.items():
        rows = predicted[predicted.place.fillna("null") == place]
        assert tasks["cart"]["rows"] == len(rows)
        expected = roc_auc_score(rows.cart, rows.probability_cart)
        assert tasks["cart"]["auc"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("group_by", [None, "user"])
def test_the_gate_lets_an_equal_model_pass(folder: Path, group_by: str | None) -> None:
    gate = evaluate(
        f"{folder}/runs/good",
        against_url=f"{folder}/runs/good",
        max_auc_drop=0.001,
        group_by=group_by,
    )["gate"]
    assert (gate["verdict"], gate["exit_status"]) == ("passes", 0)
    assert [task["drop"] for task in gate["tasks"].values()] == [0.0, 0.0]


def test_the_gate_stops_a_worse_model_and_says_where_rows_are_too_few(folder: Path) -> None:
    arguments = ("--against", f"{folder}/runs/good", "--max-auc-drop", "0.001", "--json")
    words = ("evaluate", f"{folder}/runs/flipped", *arguments, folder / "gate.json")
    done = subprocess.run(command_line(*words), capture_output=True, text=True)
    assert done.returncode == 3, done.stdout + done.stderr
    gate = json.loads((folder / "gate.json").read_text())["gate"]
    assert gate["verdict"] == "worse"
    assert all(drop["lower"] > 0.3 for drop in gate["tasks"].values())
    pq.write_table(clicks(200, seed=11), folder / "few.parquet")
    launch(load_config(folder / "good.yaml", ("run.name=close", "run.seed=6")))
    few = evaluate(
        f"{folder}/runs/close",
        f"{folder}/few.parquet",
        against_url=f"{folder}/runs/good",
        max_auc_drop=0.001,
    )["gate"]
    assert few["exit_status"] == 4, few["summary"]
    assert few["rows_needed"] > 200


def test_one_file_may_be_predicted_beside_itself(folder: Path) -> None:
    (folder / "one").mkdir()
    pq.write_table(clicks(50, seed=3), folder / "one" / "log.parquet")
    predict(f"{folder}/runs/good", f"{folder}/one/log.parquet", f"{folder}/one/scores")
    assert pq.read_metadata(folder / "one" / "scores" / "log.parquet").num_rows == 50


def test_a_run_with_a_body_of_one_s_own_is_judged_with_it(folder: Path) -> None:
    own = json.loads((folder / "runs" / "own" / "result.json").read_text())["tasks"]
    found = evaluate(f"{folder}/runs/own", body=own_bottom)["tasks"]
    assert found["cart"]["auc"] == own["cart"]["auc"] > 0.7


def test_labels_may_be_absent_and_a_prediction_goes_on_where_it_was_cut_off(
    folder: Path, predicted: pd.DataFrame
) -> None:
    (folder / "unlabelled").mkdir()
    for part in (folder / "eval").iterdir():
        table = pq.read_table(part).drop_columns(["purchase", "cart"])
        pq.write_table(table, folder / "unlabelled" / part.name)
    places = (f"{folder}/runs/good", f"{folder}/unlabelled", f"{folder}/cut_off")
    predict(*places)
    whole = pq.read_table(folder / "cut_off").to_pandas()
    columns = ["probability_purchase", "probability_cart"]
    pd.testing.assert_frame_equal(whole, predicted[columns], rtol=0, atol=1e-6)
    # As a killed process leaves it: two files there, of a third one a part under another name.
    for part in ("part-1.parquet", "part-2.parquet"):
        (folder / "cut_off" / part).unlink()
    (folder / "cut_off" / ".recsys_mtl_abc").mkdir()
    (folder / "cut_off" / ".recsys_mtl_abc" / "file").write_text("half")
    before = (folder / "cut_off" / "part-0.parquet").stat().st_mtime_ns
    assert predict(*places)["files_before"] == 2
    assert (folder / "cut_off" / "part-0.parquet").stat().st_mtime_ns == before
    assert not (folder / "cut_off" / ".recsys_mtl_abc").exists()
    again = pq.read_table(folder / "cut_off").to_pandas()
    pd.testing.assert_frame_equal(again, whole, rtol=0, atol=1e-6)


def test_a_prediction_that_is_killed_leaves_no_half_a_file_and_goes_on(folder: Path) -> None:
    (folder / "many").mkdir()
    for part in range(40):
        pq.write_table(clicks(2000, seed=part), folder / "many" / f"{part:02d}.parquet")
    out = folder / "killed"
    words = ("predict", f"{folder}/runs/good", "--data", folder / "many", "--out", out)
    process = subprocess.Popen(command_line(*words), stdout=subprocess.DEVNULL)
    wait_until(
        lambda: len(list(out.glob("*.parquet"))) >= 3, timeout_seconds=120, what="three files"
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = sorted(out.glob("*.parquet"))
    assert 3 <= len(there) < 40, "it was killed in time"
    assert all(pq.read_metadata(file).num_rows == 2000 for file in there)
    done = subprocess.run(command_line(*words), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"40 file(s), {len(there)} of them there before" in done.stdout
    assert pq.read_table(out).num_rows == 80_000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["evaluate", "runs/none"], "no run's folder: there is no config.yaml"),
        (["evaluate", "runs/begun"], "has no checkpoint yet"),
        (["evaluate", "runs/good", "--checkpoint", "best"], "no checkpoint .* has a score"),
        (["evaluate", "runs/good", "--checkpoint", "local_checkpoint_00002"], "did you mean"),
        (["evaluate", "runs/good", "--set", "model.dropout=0.5"], "no setting of scoring"),
        (["evaluate", "runs/good", "--group-by", "session"], r"'session' \(--group-by\) is miss"),
        (["evaluate", "runs/good", "--group-by", "items"], "'items' has type .* grouped"),
        (["evaluate", "runs/good", "--slices", "price"], "1,000"),
        (["evaluate", "runs/good", "--max-auc-drop", "0.1"], "give both or neither"),
        (
            ["evaluate", "runs/good", "--against", "runs/other", "--max-auc-drop", "0.1"],
            "the same tasks",
        ),
        (["predict", "runs/good", "--data", "unpriced.parquet", "--out", "o"], "'price' .*missing"),
        (["predict", "runs/good", "--data", "eval", "--out", "runs"], "holds other files"),
        (["predict", "runs/good", "--data", "eval", "--out", "eval/o"], "lies in the log"),
        (["predict", "runs/good", "--data", "eval", "--out", "o", "--keep", "nope"], "--keep"),
        (
            ["predict", "runs/good", "--data", "eval", "--out", "out", "--keep", "user"],
            "holds another prediction: the columns to keep was",
        ),
        (
            ["evaluate", "runs/good", "--data", "words.parquet"],
            "holds strings in .*one type",
        ),
        (["predict", "runs/good", "--data", "words.parquet", "--out", "o"], "holds strings in"),
        (["predict", "runs/good", "--data", "eval", "--out", "link/o"], "lies in the log"),
        (
            ["predict", "runs/good", "--data", "eval/*", "--out", "eval"],
            "in the log|other files",
        ),
        (
            ["predict", "runs/good", "--data", "eval", "--out", "out", *KEPT, "--set", BFLOAT16],
            "another prediction: training.precision was 'float32'",
        ),
        (
            ["predict", "runs/good", "--data", "eval", "--out", "out", *KEPT, *FIRST],
            "--checkpoint local_checkpoint_000002 goes on with it",
        ),
        (["evaluate", "runs/own"], "is of the body .*OwnBottom, and this is .*SharedBottom"),
        (["export", "runs/own", "--out", "b"], "is of the body .*OwnBottom, and this is"),
        (
            ["evaluate", "runs/good", "--json", "no/such/folder/e.json"],
            "--json .* cannot be",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    folder: Path,
    predicted: pd.DataFrame,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line), line
