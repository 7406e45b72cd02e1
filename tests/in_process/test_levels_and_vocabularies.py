"""A run of PLE with one_hot features, from the start to what a server has of it."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipelines.synthetic_world import DEVICES
from recsys_mtl.config import UserError
from recsys_mtl.driver.export import export_run
from recsys_mtl.driver.launch import launch
from recsys_mtl.driver.predict import predict
from recsys_mtl.serving import Scorer
from tests.in_process.demo_runs import TASKS, config_of, tensors_of, write_demo_log

KNOWN = list(DEVICES[:-2])
SETTINGS = (
    "model.body={kind: ple, shared_experts: 2, expert_hidden_sizes: [12, 8]}",
    f"data.features.device={{kind: one_hot, vocabulary: {KNOWN}}}",
    f"data.features.hour={{kind: one_hot, vocabulary: {[*range(23, -1, -1)]}}}",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, and the run `whole` of 16 steps."""
    made = write_demo_log(tmp_path_factory.mktemp("levels"))
    launch(config_of(made, "whole", *SETTINGS, "training.max_steps=16"))
    return made


def test_a_run_that_goes_on_trains_what_one_without_a_break_trains(folder: Path) -> None:
    for steps in (7, 16):
        launch(config_of(folder, "in-two-parts", *SETTINGS, f"training.max_steps={steps}"))
    whole, parts = tensors_of(folder, "whole"), tensors_of(folder, "in-two-parts")
    assert whole.keys() == parts.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert "tables.device" not in whole
    assert "levels.0.shared_gate.cart.weight" in whole
    unknown = [
        json.loads((folder / "runs" / run / "result.json").read_text())["outside_vocabulary"]
        for run in ("whole", "in-two-parts")
    ]
    assert unknown[0] == unknown[1]
    assert [*unknown[0]] == ["device"], "two of its values are in no place of the vocabulary"
    moments = whole["second_moment.levels.1.task_experts.cart.0.weight"]
    assert (moments > 0).any(), "a task's own experts are trained"


def test_another_vocabulary_is_refused_where_the_run_would_go_on(folder: Path) -> None:
    grown = f"data.features.device={{kind: one_hot, vocabulary: {list(DEVICES)}}}"
    with pytest.raises(UserError, match=r"data\.features\.device\.vocabulary: \[.*\] -> \[.*\]"):
        launch(config_of(folder, "whole", *SETTINGS, grown, "training.max_steps=17"))


def test_a_server_scores_rows_as_prediction_does(folder: Path) -> None:
    predict(f"{folder}/runs/whole", f"{folder}/demo/eval", f"{folder}/scores")
    predicted = pq.read_table(folder / "scores")
    export_run(f"{folder}/runs/whole", f"{folder}/bundle")
    scorer = Scorer.load(folder / "bundle")
    rows = pq.read_table(folder / "demo" / "eval")
    found = scorer.score(rows)
    for task in TASKS:
        expected = predicted[f"probability_{task}"].to_numpy()
        np.testing.assert_allclose(found[task], expected, rtol=0, atol=1e-6)
    row = rows.slice(0, 1).to_pylist()[0]
    unknown, last, missing = ([row | {"device": d}] for d in ("toaster", DEVICES[-1], None))
    assert scorer.score(unknown)["cart"] == scorer.score(last)["cart"]
    assert scorer.score(unknown)["cart"] != scorer.score(missing)["cart"]
