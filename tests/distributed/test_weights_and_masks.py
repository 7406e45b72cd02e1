"""Weights, masks and windows train what the same log written out by hand trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from tests.distributed.test_worker_equivalence import Outcome, train
from tests.unit.data.click_logs import fresh_generator

ROWS, BATCH = 96, 320  # a batch that takes every row, also where each stands there three times
DAY = 86_400
RUN = """
run: {{name: weights, seed: 3}}
data:
  train: {folder}/log.parquet
  eval: {folder}/log.parquet
  lanes: 4
  features:
    user: {{kind: id, rows: 40, embedding_dim: 8}}
    items: {{kind: id, rows: 60, embedding_dim: 4, pooling: mean}}
    price: {{kind: dense, transform: log1p}}
  labels: {{purchase: purchase, cart: cart}}
model: {{bottom_hidden_sizes: [16, 8]}}
method: {{kind: gradops, alpha: -1.0}}
optimizer:
  dense: {{kind: sgd, learning_rate: 0.5}}
  tables: {{kind: sgd, learning_rate: 0.5}}
training: {{global_batch_size: 320, max_steps: 1}}
"""
BY_SETTING = {
    "weights": "{column: purchase, sample_weight: w}",
    "loss weight": "{column: purchase, loss_weight: 3.0}",
    "only where": "{column: purchase, only_where: click}",
    "window": "{column: purchase, event_time: t, window: 3d}",
}
"""What the task `purchase` is set to."""


def weights_by_hand(log: pa.Table) -> pa.Table:
    """Each row as often as its weight says."""
    return log.take(np.repeat(np.arange(ROWS), log["w"].to_numpy()))


def clicks_by_hand(log: pa.Table) -> pa.Table:
    """The label null where there was no click."""
    return with_purchase(log, pc.if_else(log["click"], log["purchase"], None))


def maturity_by_hand(log: pa.Table) -> pa.Table:
    """The label null where it is a negative of the last three days."""
    young = pc.greater(log["t"], pc.max(log["t"]).as_py() - 3 * DAY)
    negative = pc.equal(log["purchase"], 0)
    return with_purchase(log, pc.if_else(pc.and_(young, negative), None, log["purchase"]))


def with_purchase(log: pa.Table, column: Any) -> pa.Table:
    return log.set_column(log.column_names.index("purchase"), "purchase", column)


BY_HAND: dict[str, Callable[[pa.Table], pa.Table]] = {
    "weights": weights_by_hand,
    "only where": clicks_by_hand,
    "window": maturity_by_hand,
}


def draw_log() -> pa.Table:
    rng = fresh_generator()
    taste = rng.normal(size=ROWS)
    return pa.table(
        {
            "user": rng.integers(0, 60, ROWS),
            "items": [rng.integers(0, 90, rng.integers(0, 4)).tolist() for _ in range(ROWS)],
            "price": rng.lognormal(3, 1, ROWS),
            "purchase": (taste > 0.3).astype(np.int8),
            "cart": (taste < 0.0).astype(np.int8),
            "w": rng.integers(1, 4, ROWS),
            "click": rng.random(ROWS) < 0.5,
            "t": rng.integers(1_780_000_000, 1_780_000_000 + 10 * DAY, ROWS),
        }
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Outcome]]:
    """World size to what one step of each log comes to, by a setting and by hand."""
    folder, log = tmp_path_factory.mktemp("log"), draw_log()
    pq.write_table(log, folder / "log.parquet", row_group_size=20)
    variants = {"plain": list[str]()}
    for name, label in BY_SETTING.items():
        # The weights are both tasks', as rows that stand there twice are.
        both = (
            [f"data.labels.cart={label.replace('purchase', 'cart')}"] if name == "weights" else []
        )
        variants[name] = [f"data.labels.purchase={label}", *both]
    for name, write in BY_HAND.items():
        file = folder / f"{name.replace(' ', '_')}.parquet"
        pq.write_table(write(log), file, row_group_size=20)
        variants[f"{name}, by hand"] = [f"data.train={file}"]
    run_yaml = Path(folder / "run.yaml")
    run_yaml.write_text(RUN.format(folder=folder))
    return {size: train(run_yaml, size, 1, variants) for size in (1, 2)}


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("name", BY_HAND)
def test_one_step_by_a_setting_is_that_of_the_log_written_by_hand(
    outcomes: dict[int, dict[str, Outcome]], name: str, world_size: int
) -> None:
    found, expected = (outcomes[world_size][variant] for variant in (name, f"{name}, by hand"))
    for quantity in ("losses", "weights", "coefficients", "grams", "parameters", "tables"):
        torch.testing.assert_close(found[quantity], expected[quantity], rtol=1e-6, atol=1e-6)
    plain = outcomes[world_size]["plain"]
    assert (found["losses"][0, 0] - plain["losses"][0, 0]).abs() > 1e-4, "it makes a difference"


def test_two_workers_weigh_rows_as_one_does(outcomes: dict[int, dict[str, Outcome]]) -> None:
    for name in BY_SETTING:
        one, two = (outcomes[size][name] for size in (1, 2))
        for quantity in ("losses", "weights", "coefficients", "parameters", "tables"):
            torch.testing.assert_close(two[quantity], one[quantity], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_loss_weight_scales_the_gradient_that_is_compared_and_not_the_loss_shown(
    outcomes: dict[int, dict[str, Outcome]], world_size: int
) -> None:
    plain, threefold = (outcomes[world_size][name] for name in ("plain", "loss weight"))
    torch.testing.assert_close(threefold["losses"], plain["losses"], rtol=1e-6, atol=0)
    scale = torch.tensor([3.0, 1.0], dtype=torch.float64)
    expected = plain["grams"][0] * scale[:, None] * scale
    torch.testing.assert_close(threefold["grams"][0], expected, rtol=1e-5, atol=1e-8)
    heads = [name for name in plain["parameters"] if name.startswith("heads.purchase")]
    assert heads
    for name in heads:
        assert not torch.equal(threefold["parameters"][name], plain["parameters"][name]), name
