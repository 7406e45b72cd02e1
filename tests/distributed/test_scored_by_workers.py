"""Evaluation and prediction say the same on one worker and on three, two of which have padding."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.config.file import load_config
from recsys_mtl.driver.launch import launch
from tests.distributed.gloo import run_on_workers
from tests.distributed.scored_by_workers import run_worker

RUN = """\
run: {name: run, storage_path: FOLDER/runs}
data:
  train: FOLDER/log
  eval: FOLDER/log
  features:
    user: {kind: id, rows: 60, embedding_dim: 4}
    items: {kind: id, rows: 30, embedding_dim: 8, pooling: mean}
    price: {kind: dense}
  labels: {purchase: buy, cart: {column: cart, sample_weight: weight}}
  lanes: 4
model: {bottom_hidden_sizes: [8]}
method: {kind: uniform}
optimizer: {tables: {kind: adagrad}}
sharding: {items: {kind: column_wise, columns_per_shard: 4}}
training: {global_batch_size: 24, max_steps: 10}
cluster: {num_workers: 0}
metrics: {linger_seconds: 0}
"""


def write_log(folder: Path) -> None:
    draw = np.random.default_rng(3)
    (folder / "log").mkdir()
    for part, rows in enumerate((120, 1, 50, 77)):
        price = draw.normal(size=rows)
        table = {
            "user": draw.integers(0, 50, rows),
            "items": [draw.integers(0, 30, n).tolist() for n in draw.integers(0, 3, rows)],
            "price": price,
            "place": draw.choice(["a", "b"], rows),
            "buy": pa.array((price > 0).astype(int), mask=draw.random(rows) < 0.1),
            "cart": draw.integers(0, 2, rows),
            "weight": draw.integers(0, 4, rows).astype(float),
        }
        pq.write_table(pa.table(table), folder / "log" / f"{part}.parquet", row_group_size=40)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Workers to what they left."""
    folder = tmp_path_factory.mktemp("scored")
    write_log(folder)
    (folder / "run.yaml").write_text(RUN.replace("FOLDER", str(folder)))
    launch(load_config(folder / "run.yaml"))
    left = {}
    for workers in (1, 3):
        left[workers] = folder / str(workers)
        left[workers].mkdir()
        places = (str(folder / "runs" / "run"), str(folder / "log"), left[workers])
        run_on_workers(run_worker, workers, *places)
    return left


def assert_alike(one: Any, other: Any) -> None:
    """Numbers to rounding, all else exactly."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_alike(one[name], other[name])
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-6, nan_ok=True)
    elif not isinstance(one, str):
        assert one == other


def test_every_number_of_an_evaluation_is_the_same(scored: dict[int, Path]) -> None:
    one, three = (json.loads((scored[w] / "evaluation.json").read_text()) for w in (1, 3))
    assert one["tasks"]["purchase"]["groups"]["groups"] > 10
    assert set(one["slices"]["place"]) == {"a", "b"}
    assert one["gate"]["tasks"]["purchase"]["drop"] != 0
    assert_alike(one, three)


def test_every_file_is_predicted_in_its_order(scored: dict[int, Path]) -> None:
    for part in range(4):
        name = f"{part}.parquet"
        one, three = (pq.read_table(scored[w] / "predicted" / name).to_pandas() for w in (1, 3))
        log = pq.read_table(scored[1].parent / "log" / name).to_pandas()
        assert one.user.tolist() == three.user.tolist() == log.user.tolist()
        pd.testing.assert_frame_equal(one, three, rtol=0, atol=1e-6)
        assert one.probability_purchase.nunique() == len(log)
