"""Plans are what was asked for, are written down and kept to."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor
from torchrec import EmbeddingBagCollection
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder

from recsys_mtl.config import Data, TableOptimizer, TableSharding, UserError
from recsys_mtl.distributed import planning
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.planning import PlanRecord, describe, fits, make_plan, record_of
from recsys_mtl.distributed.sharding import ShardedTables
from recsys_mtl.distributed.torchrec_inputs import table_descriptions

DATA = Data.model_validate(
    {
        "train": "log",
        "eval": "log",
        "labels": {"buy": "buy"},
        "features": {
            "user": {"kind": "id", "rows": 9, "embedding_dim": 8},
            "items": {"kind": "id", "rows": 99, "embedding_dim": 16},
            "last": {"kind": "id", "table": "items"},
        },
    }
)
COLUMNS = {"items": TableSharding(kind="column_wise", columns_per_shard=8)}


def tables_of(context: WorkerContext, **options: Any) -> ShardedTables:
    return ShardedTables(
        DATA, TableOptimizer(kind="sgd"), options.pop("wanted", {}), context, seed=1, **options
    )


def values(tables: ShardedTables) -> dict[str, Tensor]:
    return {
        name: torch.cat([shard.tensor for shard in tensor.local_shards()], dim=1)
        for name, tensor in tables.state_dict().items()
    }


def test_tables_are_whole_unless_columns_are_asked_for(alone: WorkerContext) -> None:
    whole, cut = tables_of(alone).plan, tables_of(alone, wanted=COLUMNS).plan
    assert [shard["sizes"] for shard in whole["items_table"]] == [[101, 16]]
    assert [shard["sizes"] for shard in cut["items_table"]] == [[101, 8], [101, 8]]
    assert whole["user_table"] == cut["user_table"]


def test_a_plan_read_back_from_json_is_kept_to(alone: WorkerContext) -> None:
    earlier = json.loads(json.dumps(tables_of(alone, wanted=COLUMNS).plan))
    kept = tables_of(alone, earlier=earlier)  # would plan whole tables now
    assert kept.plan == earlier
    assert len(kept.state_dict()["tables.items"].local_shards()) == 2
    torch.testing.assert_close(values(kept), values(tables_of(alone)), rtol=0, atol=0)


def changed(plan: PlanRecord, **values: object) -> PlanRecord:
    other = copy.deepcopy(dict(plan))
    other["items_table"][0] |= values  # type: ignore[operator]
    return other


def test_a_plan_for_other_workers_devices_or_tables_is_passed_over(alone: WorkerContext) -> None:
    plan = tables_of(alone).plan
    assert fits(plan, DATA, alone)
    second_worker = changed(plan, rank=1)
    for other in (
        second_worker,
        changed(plan, placement="rank:0/cuda:0"),
        {"user_table": plan["user_table"]},
    ):
        assert not fits(other, DATA, alone)
    assert tables_of(alone, earlier=second_worker).plan == plan


@pytest.mark.parametrize(
    ("wish", "refusal"),
    [
        ({"kind": "row_wise"}, "sharding.items.kind is row_wise, which TorchRec has on CUDA only"),
        ({"kernel": "fused_uvm"}, "sharding.items.kernel is fused_uvm, which there is on CUDA"),
    ],
)
def test_what_only_cuda_has_is_refused_where_workers_turn_out_to_be_on_the_cpu(
    alone: WorkerContext, wish: dict[str, str], refusal: str
) -> None:
    with pytest.raises(UserError, match=refusal):
        tables_of(alone, wanted={"items": TableSharding(**wish)})


def test_row_wise_is_planned_for_cuda() -> None:
    wanted = {"items": TableSharding(kind="row_wise", kernel="fused_uvm_caching")}
    context = WorkerContext(0, 2, 2, torch.device("cuda"))
    assert "row_wise" in str(plan_on_cuda(wanted, context))


def plan_on_cuda(wanted: dict[str, TableSharding], context: WorkerContext) -> object:
    """Planning needs no GPU, but for the size of its memory."""
    tables = EmbeddingBagCollection(tables=table_descriptions(DATA), device=torch.device("meta"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.mem_get_info", lambda: (8 << 30, 8 << 30))
        return make_plan(tables, EmbeddingBagCollectionSharder(), DATA, wanted, context)


def test_a_person_is_told_what_lies_where(alone: WorkerContext) -> None:
    (line,) = describe(tables_of(alone, wanted=COLUMNS).plan)
    assert line.startswith("worker 0: 3 shard(s), 0.0 MB: user_table 10 x 8, items_table 101 x 8 ")
    assert line.endswith("items_table 101 x 8 column_wise from [0, 8]")


def plan_of_one_table(gigabytes: int, wanted: TableSharding, workers: int) -> PlanRecord:
    rows = gigabytes * 10**9 // (4 * 8)
    features = {"user": {"kind": "id", "rows": rows, "embedding_dim": 8}}
    data = Data.model_validate(DATA.model_dump() | {"features": features})
    tables = EmbeddingBagCollection(tables=table_descriptions(data), device=torch.device("meta"))
    sharder = EmbeddingBagCollectionSharder(fused_params={"learning_rate": 0.1})
    context = WorkerContext(0, workers, workers, torch.device("cpu"))
    return record_of(make_plan(tables, sharder, data, {"user": wanted}, context))


@pytest.fixture
def ten_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine's memory: 4 GB for tables for each of two workers."""
    monkeypatch.setattr(planning, "_memory_bytes", lambda: 10**10)


HALVES = TableSharding(kind="column_wise", columns_per_shard=4)


@pytest.mark.usefixtures("ten_gigabytes")
@pytest.mark.parametrize(("gigabytes", "wanted"), [(9, HALVES), (5, TableSharding())])
def test_tables_larger_than_the_memory_are_refused(gigabytes: int, wanted: TableSharding) -> None:
    sentence = rf"user_table {gigabytes}\.0 GB\) do not fit on 2 worker\(s\) with 4\.0 GB"
    with pytest.raises(UserError, match=sentence):
        plan_of_one_table(gigabytes, wanted, workers=2)


@pytest.mark.usefixtures("ten_gigabytes")
def test_a_table_larger_than_one_workers_memory_is_cut_by_columns() -> None:
    (shards,) = plan_of_one_table(5, HALVES, workers=2).values()
    assert [(shard["rank"], shard["sizes"][1]) for shard in shards] == [(0, 4), (1, 4)]
