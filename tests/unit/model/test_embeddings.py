"""Tables as TorchRec gets them, and initial rows that no sharding changes."""

import secrets
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torchrec import EmbeddingBagCollection, KeyedJaggedTensor

from recsys_mtl.config import Data
from recsys_mtl.model.embeddings import initial_rows, pooled_width, table_descriptions
from tests.unit.data.click_logs import fresh_generator

BLOCK_ROWS = 65_536
DIM = 4


def rows_of(start: int, stop: int, *, total: int, seed: int = 5, table: int = 0) -> Tensor:
    return initial_rows(seed=seed, table=table, total_rows=total, dim=DIM, start=start, stop=stop)


def data_of(features: dict[str, dict[str, Any]]) -> Data:
    return Data.model_validate(
        {"train": "unused", "eval": "unused", "features": features, "labels": {"purchase": "buy"}}
    )


def id_feature(**settings: Any) -> dict[str, Any]:
    return {"kind": "id", "rows": 10, "embedding_dim": DIM} | settings


def test_any_shard_starts_with_its_slice_of_the_whole_table() -> None:
    rng = fresh_generator()
    total = 2 * BLOCK_ROWS + int(rng.integers(1, 1000))
    whole = rows_of(0, total, total=total)
    assert whole.shape == (total, DIM)
    cuts = sorted(rng.integers(0, total, 6).tolist())
    # On either side of a block's border, across it, across a whole block, and nothing at all.
    borders = [BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS, total]
    edges = sorted({0, *cuts, *borders})
    shards = [*pairwise(edges), (BLOCK_ROWS - 3, 2 * BLOCK_ROWS + 1), (7, 7)]
    for start, stop in shards:
        assert torch.equal(rows_of(start, stop, total=total), whole[start:stop]), (start, stop)


@pytest.mark.parametrize("total", [100, 10_000])
def test_rows_are_uniform_within_one_over_the_root_of_their_number(total: int) -> None:
    rows = rows_of(0, total, total=total, seed=secrets.randbits(32))
    limit = total**-0.5
    assert rows.abs().max() <= limit
    # 400 draws at least: none in the outer tenth of either side has a chance of 1e-9.
    assert rows.max() > 0.9 * limit
    assert rows.min() < -0.9 * limit


def test_rows_differ_by_table_by_seed_and_by_block() -> None:
    total = 2 * BLOCK_ROWS
    drawn = [
        rows_of(0, 9, total=total),
        rows_of(0, 9, total=total, table=1),
        rows_of(0, 9, total=total, seed=6),
        rows_of(BLOCK_ROWS, BLOCK_ROWS + 9, total=total),
    ]
    assert len({tuple(rows.flatten().tolist()) for rows in drawn}) == len(drawn)


@pytest.mark.parametrize("name", ["items", "type", "values", "training", "forward", "weight"])
def test_a_feature_may_be_called_like_an_attribute_of_a_module(name: str) -> None:
    data = data_of({name: id_feature(), "plain": id_feature()})
    tables = EmbeddingBagCollection(tables=table_descriptions(data))
    ids = KeyedJaggedTensor.from_lengths_sync(
        [name, "plain"], torch.tensor([1, 2, 3]), torch.tensor([2, 0, 0, 1])
    )
    pooled = tables(ids)
    weight = tables.state_dict()[f"embedding_bags.{name}_table.weight"]
    torch.testing.assert_close(pooled[name][0], weight[1] + weight[2])
    assert not pooled[name][1].any()
    assert pooled["plain"].shape == (2, DIM)


def test_features_that_share_a_table_have_one_description_and_a_missing_row_each() -> None:
    data = data_of(
        {
            "item": id_feature(rows=10, embedding_dim=8),
            "price": {"kind": "dense"},
            "last_item": {"kind": "id", "table": "item", "pooling": "mean"},
            "city": id_feature(rows=3),
        }
    )
    found = [(t.feature_names, t.num_embeddings, t.embedding_dim) for t in table_descriptions(data)]
    assert found == [(["item", "last_item"], 12, 8), (["city"], 4, 4)]
    assert pooled_width(data) == 8 + 8 + 4
