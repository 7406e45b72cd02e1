"""A model that begins with another one's values: what is taken, what is new, what is dropped."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from tests.distributed.gloo import run_on_workers
from tests.distributed.warm_started import run_worker

ROWS = 200
OLD = """\
run: {name: old}
data:
  train: LOG
  eval: LOG
  features:
    user: {kind: id, rows: 40, embedding_dim: 8}
    item: {kind: id, rows: 30, embedding_dim: 4}
    seen: {kind: id, table: item, pooling: mean}
    city: {kind: id, rows: 20, embedding_dim: 4}
    price: {kind: dense}
    age: {kind: dense}
    tier: {kind: one_hot, column: city, vocabulary: [3, 1, 2]}
  labels: {purchase: buy, cart: cart}
  lanes: 2
model: {bottom_hidden_sizes: [12, 6], BODY}
method: {kind: gradops}
optimizer: {tables: {kind: adagrad, learning_rate: 0.5}}
sharding: {user: {kind: column_wise, columns_per_shard: 4}}
training: {global_batch_size: 64}
"""
# item is called product, seen watched, age years and purchase paid; a new table has taken the name
# item; shop and a second list over product's table are new (the list stands before the one that was
# there); city has become a number, wish is a new task, price comes after age with another mean, and
# tier's vocabulary has 9 instead of 2.
NEW = """\
run:
  name: new
  warm_start:
    from: old
    rename: {item: product, seen: watched, age: years, purchase: paid}
data:
  train: LOG
  eval: LOG
  features:
    shop: {kind: id, rows: 10, embedding_dim: 4}
    user: {kind: id, rows: 40, embedding_dim: 8}
    product: {kind: id, column: item, rows: 30, embedding_dim: 4}
    liked: {kind: id, column: seen, table: product}
    watched: {kind: id, column: seen, table: product, pooling: mean}
    item: {kind: id, column: shop, rows: 31, embedding_dim: 4}
    years: {kind: dense, column: age}
    price: {kind: dense, mean: 100.0}
    city: {kind: dense}
    tier: {kind: one_hot, column: city, vocabulary: [1, 9, 3]}
  labels: {wish: wish, paid: buy, cart: cart}
  lanes: 2
model: {bottom_hidden_sizes: [12, 6], BODY}
method: {kind: gradops}
optimizer: {tables: {kind: adagrad, learning_rate: 0.5}}
sharding: {user: {kind: column_wise, columns_per_shard: 4}}
training: {global_batch_size: 64}
"""


class WarmStart(NamedTuple):
    old: dict[str, Tensor]
    """By name, when the old model was saved."""
    new: dict[str, Tensor]
    """By name, before the first step."""
    report: dict[str, Any]


def write_log(folder: Path) -> str:
    draw = np.random.default_rng(7)
    ids = {name: draw.integers(0, 40, ROWS) for name in ("user", "item", "city", "shop")}
    ids["item"][::7] = -1
    columns: dict[str, Any] = {
        name: pa.array(values, mask=values < 0) for name, values in ids.items()
    }
    columns["seen"] = [list(map(int, draw.integers(0, 30, n % 3))) for n in range(ROWS)]
    columns |= {name: draw.normal(size=ROWS) for name in ("price", "age")}
    columns |= {name: draw.integers(0, 2, ROWS) for name in ("buy", "cart", "wish")}
    pq.write_table(pa.table(columns), folder / "log.parquet")
    return str(folder / "log.parquet")


def warm_started(folder: Path, workers: int, body: str) -> WarmStart:
    log = write_log(folder)
    for name, text in (("old", OLD), ("new", NEW)):
        (folder / f"{name}.yaml").write_text(text.replace("LOG", log).replace("BODY", body))
    run_on_workers(run_worker, workers, folder)
    report = json.loads((folder / "report.json").read_text())
    return WarmStart(torch.load(folder / "old.pt"), torch.load(folder / "new.pt"), report)


@pytest.fixture(scope="module", params=[1, 2])
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WarmStart:
    """A shared bottom, on one worker and on two."""
    return warm_started(tmp_path_factory.mktemp("begun"), request.param, "dropout: 0.0")


def test_tables_that_both_have_are_equal_with_their_optimizer_s_state(begun: WarmStart) -> None:
    old, new = begun.old, begun.new
    for kind in ("tables", "accumulator.tables"):
        assert torch.equal(new[f"{kind}.user"], old[f"{kind}.user"])
        product, item = new[f"{kind}.product"], old[f"{kind}.item"]
        assert (len(item), len(product)) == (32, 33)
        assert torch.equal(product[:31], item[:31]), "the values, and the row for product's nulls"
        assert torch.equal(product[32], item[31]), "the row for the nulls of seen"
        assert len(new[f"{kind}.item"]) == len(item)
        assert not torch.equal(new[f"{kind}.item"], item), "another table now"
    assert (old["accumulator.tables.item"] > 0).any(), "the old model has trained"


def test_the_bottom_takes_the_columns_of_the_features_in_both(begun: WarmStart) -> None:
    # Columns there: user 0-8, item 8-12, seen 12-16, city 16-20, price 20, age 21. Here: shop 0-4,
    # user 4-12, product 12-16, liked 16-20, watched 20-24, item 24-28, years 28, price 29, city 30.
    pairs = [(4, 12, 0), (12, 16, 8), (20, 24, 12), (28, 29, 21), (29, 30, 20)]
    # Tier there: 3, 1, 2, other, null from 22 on. Here: 1, 9 (another value there), 3, other, null.
    pairs += [(31, 32, 23), (32, 33, 25), (33, 34, 22), (34, 35, 25), (35, 36, 26)]
    for kind in ("", "first_moment.", "second_moment."):
        here = begun.new[f"{kind}bottom.layers.0.weight"]
        there = begun.old[f"{kind}bottom.layers.0.weight"]
        for start, stop, first in pairs:
            assert torch.equal(here[:, start:stop], there[:, first : first + stop - start])
        if kind:
            assert (here[:, :4] == 0).all()
            assert (here[:, 16:20] == 0).all()
            assert (here[:, 24:28] == 0).all()
            assert (here[:, 30] == 0).all()
    for name in ("bottom.layers.0.bias", "bottom.layers.1.weight", "heads.cart.0.weight"):
        assert torch.equal(begun.new[name], begun.old[name]), name
    assert torch.equal(begun.new["heads.paid.0.weight"], begun.old["heads.purchase.0.weight"])


def test_what_is_new_and_what_is_dropped_is_reported(begun: WarmStart) -> None:
    report = begun.report
    assert {n for n in report["new"] if "moment" not in n and "accumulator" not in n} == {
        "tables.shop",
        "tables.item",
        "heads.wish.0.weight",
        "heads.wish.0.bias",
    }
    assert set(report["dropped"]) == {"tables.city", "accumulator.tables.city"}
    assert set(report["by_column"]) == {
        "bottom.layers.0.weight",
        "first_moment.bottom.layers.0.weight",
        "second_moment.bottom.layers.0.weight",
    }
    assert report["new_features"] == ["shop", "liked", "item", "city"]
    assert report["dropped_features"] == ["city"]
    assert report["changed"] == [
        "price: mean 0 -> 100",
        "city: kind id -> dense",
        "tier: vocabulary with 1 more values (9), without 1 values (2)",
    ]
    known = {*report["matched"], *report["new"]}
    assert known == {n for n in begun.new if not n.startswith(("method.", "cached_", "window."))}


@pytest.mark.parametrize(
    ("body", "experts", "gate"),
    [
        ("{kind: mmoe, experts: 2, expert_hidden_sizes: [6]}", "experts.0", "gates"),
        ("{kind: ple, expert_hidden_sizes: [6]}", "levels.0.shared_experts.0", "levels.0.gates"),
    ],
)
def test_gates_and_experts_take_columns_too(
    tmp_path: Path, body: str, experts: str, gate: str
) -> None:
    old, new, report = warm_started(tmp_path, 1, f"body: {body}")
    for name in (f"{experts}.weight", f"{gate}.cart.weight"):
        assert name in report["by_column"]
        assert torch.equal(new[name][..., 4:12], old[name][..., :8])
        assert torch.equal(new[name][..., 29], old[name][..., 20])
    assert f"{gate}.wish.weight" in report["new"]
    assert f"{gate}.wish.weight" not in report["by_column"]
    assert (new[f"{gate}.wish.weight"] != 0).all(), "a new gate keeps its random first values"
    if "levels" in gate:  # the shared gate has a part per task, and purchase is called paid
        here, there = (
            new["levels.0.shared_gate.paid.weight"],
            old["levels.0.shared_gate.purchase.weight"],
        )
        assert torch.equal(here[:, 29], there[:, 20])
        assert "levels.0.shared_gate.wish.weight" in report["new"]
