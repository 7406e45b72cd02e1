"""Rows of a worker's lanes to one padded batch."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys_mtl.data.batch import ClickBatch, assemble
from recsys_mtl.data.features import REJECT_REASONS, REJECTED, EncodedRows, encode
from tests.unit.data.click_logs import click_data, clicks, fresh_generator

DATA = click_data()


def encoded(first_row: int, num_rows: int, *, unreadable: bool = False) -> EncodedRows:
    marks = pa.repeat(unreadable, num_rows)
    return encode(clicks(first_row, num_rows).append_column(REJECTED, marks), DATA, "log.parquet")


def with_bad_label(first_row: int, num_rows: int) -> EncodedRows:
    """All rows have one."""
    table = clicks(first_row, num_rows).drop_columns("buy")
    table = table.append_column("buy", pa.repeat(7, num_rows))
    table = table.append_column(REJECTED, pa.repeat(False, num_rows))
    return encode(table, click_data(on_error="skip"), "log.parquet")


def bags(batch: ClickBatch, feature: str) -> list[list[int]]:
    assert batch.ids is not None
    values, lengths = batch.ids.bags_of(feature)
    return [part.tolist() for part in torch.split(values, lengths.tolist())]


def test_lanes_stand_one_after_the_other_each_padded_to_its_size() -> None:
    batch = assemble(7, [[encoded(0, 2), encoded(10, 1)], [encoded(20, 1)], []], 3, DATA)
    assert batch.step == 7
    assert bags(batch, "row") == [[0], [1], [10], [20], [], [], [], [], []]
    assert [len(bag) for bag in bags(batch, "words")] == [0, 1, 1, 2, 0, 0, 0, 0, 0]
    assert batch.dense[:, 0].tolist() == [0, 0.5, 5, 10, 0, 0, 0, 0, 0]
    assert batch.label_mask[:, 0].tolist() == [True] * 4 + [False] * 5
    assert batch.labels[:, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert batch.rows == 4


def test_shapes_and_types_hold_for_any_pieces() -> None:
    generator = fresh_generator()
    for _ in range(20):
        size, num_lanes = generator.integers(1, 5, 2).tolist()
        lanes = []
        for _ in range(num_lanes):
            cuts = np.unique(generator.integers(0, size + 1, 3)).tolist()
            lanes.append([encoded(a, b - a) for a, b in pairwise(cuts)])
        batch = assemble(0, lanes, size, DATA)
        B = size * num_lanes
        assert batch.dense.shape == batch.labels.shape == batch.label_mask.shape == (B, 1)
        assert (batch.dense.dtype, batch.labels.dtype) == (torch.float32, torch.float32)
        assert batch.label_mask.dtype == torch.bool
        assert batch.ids is not None
        assert batch.ids.names == ("row", "words")
        assert batch.ids.lengths.shape == (2 * B,)
        assert batch.ids.values.dtype == batch.ids.lengths.dtype == torch.int64
        assert batch.ids.ids_per_feature == tuple(batch.ids.lengths.view(2, B).sum(dim=1).tolist())
        assert batch.nulls.shape == (4,)
        assert batch.rows == int(batch.label_mask.sum()) == batch.ids.ids_per_feature[0]


def test_a_batch_of_padding_alone_has_the_same_shapes() -> None:
    batch = assemble(0, [[], []], 2, DATA)
    assert bags(batch, "row") == bags(batch, "words") == [[], [], [], []]
    assert batch.dense.shape == batch.labels.shape == (4, 1)
    assert not batch.label_mask.any()
    assert batch.counts.tolist() == [0] * (1 + len(REJECT_REASONS))
    assert batch.nulls.tolist() == [0, 0, 0, 0]


def test_rejected_rows_and_nulls_are_counted_over_all_pieces() -> None:
    table = clicks(0, 2).drop_columns("price").append_column("price", pa.array([None, 1.0]))
    with_null = encode(table.append_column(REJECTED, pa.repeat(False, 2)), DATA, "log.parquet")
    lanes = [
        [with_null, encoded(5, 1, unreadable=True), encoded(6, 1, unreadable=True)],
        [with_null, with_bad_label(9, 1)],
    ]
    batch = assemble(0, lanes, 4, DATA)
    assert batch.counts.dtype == torch.float32
    assert batch.counts.tolist() == [7, 2, 1, 0, 0, 0]  # rows, unreadable, bad label
    assert batch.rows == 7
    assert batch.nulls.tolist() == [0, 0, 2, 0]  # row, words, price, buy
    known = [True, True, False, False, True, True, False, False]
    assert batch.label_mask[:, 0].tolist() == known


@pytest.mark.parametrize("kind", ["id", "dense"])
def test_a_model_may_have_one_kind_of_feature_only(kind: str) -> None:
    features = {
        "id": {"row": {"kind": "id", "rows": 10, "embedding_dim": 4}},
        "dense": {"price": {"kind": "dense"}},
    }
    data = click_data(features=features[kind])
    table = clicks(0, 2).append_column(REJECTED, pa.repeat(False, 2))
    batch = assemble(0, [[encode(table, data, "log.parquet")]], 3, data)
    assert (batch.ids is None) == (kind == "dense")
    assert batch.dense.shape == (3, 1 if kind == "dense" else 0)


def test_to_keeps_a_batch_on_the_cpu_as_it_is() -> None:
    batch = assemble(0, [[encoded(0, 1)]], 1, DATA)
    assert batch.to(torch.device("cpu")) is batch
