"""Initial rows that no sharding changes, and the width of what is looked up."""

import secrets
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from recsys_mtl.model.embeddings import initial_rows, pooled_width
from tests.unit.data.click_logs import click_data, fresh_generator

BLOCK_ROWS = 65_536
DIM = 4


def rows_of(start: int, stop: int, *, total: int, seed: int = 5, table: int = 0) -> Tensor:
    return initial_rows(seed=seed, table=table, total_rows=total, dim=DIM, start=start, stop=stop)


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


def test_the_pooled_width_counts_every_feature_with_its_table_s_columns() -> None:
    features = {
        "item": {"kind": "id", "rows": 10, "embedding_dim": 8},
        "price": {"kind": "dense"},
        "last_item": {"kind": "id", "table": "item", "pooling": "mean"},
        "city": {"kind": "id", "rows": 3, "embedding_dim": 4},
    }
    assert pooled_width(click_data(features=features)) == 8 + 8 + 4
