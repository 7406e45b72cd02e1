"""Negatives downsampled to a tenth, with weight 10, tell what the full log tells."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.config.file import load_config
from recsys_mtl.driver.launch import launch

ROWS = 80_000
TASKS = ("purchase", "cart")
RUN = """
run: {{name: {log}, storage_path: {folder}/runs, seed: 5}}
data:
  train: {folder}/{log}.parquet
  eval: {folder}/eval.parquet
  lanes: 4
  features:
    shop: {{kind: id, rows: 20, embedding_dim: 4}}
    price: {{kind: dense}}
    age: {{kind: dense}}
  labels:
    purchase: {{column: purchase, sample_weight: w}}
    cart: {{column: cart, sample_weight: w}}
model: {{bottom_hidden_sizes: [16, 8]}}
method: {{kind: gradops, alpha: 0.0}}
optimizer:
  dense: {{kind: sgd, learning_rate: 0.15}}
  tables: {{kind: sgd, learning_rate: 0.15}}
training: {{global_batch_size: 8192, max_steps: 130}}
cluster: {{num_workers: 0}}
metrics: {{linger_seconds: 0}}
"""


def click_log(rows: int, seed: int) -> pa.Table:
    """Every tenth row or so is bought, put in the cart, or both; every row weighs 1."""
    rng = np.random.default_rng(seed)
    price, age, shop = rng.normal(size=rows), rng.normal(size=rows), rng.integers(0, 20, rows)
    bought = rng.random(rows) < 1 / (1 + np.exp(3.2 - price + 0.5 * np.sin(shop)))
    carted = rng.random(rows) < 1 / (1 + np.exp(2.8 + 0.7 * price - 0.7 * age))
    columns = {"shop": shop, "price": price, "age": age, "purchase": bought, "cart": carted}
    return pa.table(columns | {"w": np.ones(rows)})


def downsample(log: pa.Table, seed: int) -> pa.Table:
    """A tenth of the rows without any positive, each weighing 10."""
    rng = np.random.default_rng(seed)
    negative = ~(log["purchase"].to_numpy() | log["cart"].to_numpy())
    kept = rng.permutation(np.flatnonzero(negative))[: round(negative.sum() / 10)]
    rows = np.sort(np.concatenate([kept, np.flatnonzero(~negative)]))
    weights = pa.array(np.where(negative, 10.0, 1.0)[rows])
    return log.take(rows).set_column(log.column_names.index("w"), "w", weights)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The log trained on to its tasks' results, on one log for evaluation."""
    folder = Path(tmp_path_factory.mktemp("weighted"))
    full = click_log(ROWS, seed=1)
    pq.write_table(full, folder / "full.parquet", row_group_size=5_000)
    pq.write_table(downsample(full, seed=2), folder / "tenth.parquet", row_group_size=1_000)
    pq.write_table(click_log(ROWS, seed=3), folder / "eval.parquet", row_group_size=5_000)
    found = {}
    for log in ("full", "tenth"):
        file = folder / f"{log}.yaml"
        file.write_text(RUN.format(folder=folder, log=log))
        if log == "tenth":  # and goes on from a checkpoint, with the weighted window in it
            launch(load_config(file, ("training.max_steps=20",)))
        found[log] = launch(load_config(file))["tasks"]
    return found


@pytest.mark.parametrize("task", TASKS)
def test_a_tenth_of_the_negatives_with_weight_10_gives_the_full_log_s_calibration(
    results: dict[str, dict[str, Any]], task: str
) -> None:
    full, tenth = (results[log][task]["calibration"] for log in ("full", "tenth"))
    # Over five other draws of the logs, the two were at most 1 % apart.
    assert tenth == pytest.approx(full, rel=0.03)
    assert results["tenth"][task]["weight"] == results["tenth"][task]["rows"] == ROWS
