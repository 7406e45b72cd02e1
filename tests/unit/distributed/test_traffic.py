"""Bytes of the tables' exchanges, counted by hand."""

import torch

from recsys_mtl.config import Data
from recsys_mtl.data.batch import IdBags
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.traffic import TableTraffic

DATA = Data.model_validate(
    {
        "train": "log",
        "eval": "log",
        "labels": {"buy": "buy"},
        "features": {
            "user": {"kind": "id", "rows": 9, "embedding_dim": 8},
            "items": {"kind": "id", "rows": 9, "embedding_dim": 8},
            "last": {"kind": "id", "table": "items"},
        },
    }
)
USER_ON_FIRST = {"kind": "table_wise", "rank": 0, "sizes": [10, 8]}
ITEM_COLUMNS = [{"kind": "column_wise", "rank": rank, "sizes": [11, 4]} for rank in (0, 1)]
ITEM_ROWS = [{"kind": "row_wise", "rank": rank, "sizes": [6, 8]} for rank in (0, 1)]
# Two rows: one user each; lists of 3 and 1 items; the last item of the first row.
IDS = IdBags(
    names=("user", "items", "last"),
    values=torch.arange(7),
    lengths=torch.tensor([1, 1, 3, 1, 1, 0]),
    ids_per_feature=(2, 4, 1),
)


def traffic(rank: int, items: list[dict[str, object]], world_size: int = 2) -> TableTraffic:
    plan = {"user_table": [USER_ON_FIRST], "items_table": items}
    return TableTraffic(DATA, plan, WorkerContext(rank, world_size, 1, torch.device("cpu")))


def test_ids_and_lengths_go_to_every_shard_on_another_worker() -> None:
    # From worker 0: items and last to worker 1, 5 ids and 2 x 2 lengths of 8 bytes.
    assert traffic(0, ITEM_COLUMNS).of_lookup(IDS, [])["table_inputs"] == (5 + 4) * 8
    # From worker 1: all three features to worker 0.
    assert traffic(1, ITEM_COLUMNS).of_lookup(IDS, [])["table_inputs"] == (7 + 6) * 8


def test_rows_share_a_feature_s_ids_out_among_themselves() -> None:
    assert traffic(0, ITEM_ROWS).of_lookup(IDS, [])["table_inputs"] == (2 + 0 + 4) * 8


def test_embeddings_of_other_workers_rows_are_sent() -> None:
    outputs = [torch.zeros(4, 8), torch.zeros(4, 0)]  # both workers' 2 rows each
    assert traffic(0, ITEM_COLUMNS).of_lookup(IDS, outputs)["table_outputs"] == 2 * 8 * 4


def test_gradients_go_back_to_every_shard_on_another_worker() -> None:
    assert traffic(0, ITEM_COLUMNS).of_gradient(2) == 2 * (4 + 4) * 4
    assert traffic(1, ITEM_COLUMNS).of_gradient(2) == 2 * (8 + 4 + 4) * 4


def test_a_worker_alone_sends_nothing() -> None:
    alone = traffic(0, ITEM_COLUMNS[:1], world_size=1)
    sent = alone.of_lookup(IDS, [torch.zeros(2, 16)])
    assert set(sent.values()) == {0}
    assert alone.of_gradient(2) == 0
