"""Tables and ids as TorchRec gets them."""

from typing import Any

import pytest
import torch
from torchrec import EmbeddingBagCollection

from recsys_mtl.config import Data
from recsys_mtl.data.batch import IdBags
from recsys_mtl.distributed.torchrec_inputs import keyed_jagged, table_descriptions

DIM = 4


def data_of(features: dict[str, dict[str, Any]]) -> Data:
    return Data.model_validate(
        {"train": "unused", "eval": "unused", "features": features, "labels": {"purchase": "buy"}}
    )


def id_feature(**settings: Any) -> dict[str, Any]:
    return {"kind": "id", "rows": 10, "embedding_dim": DIM} | settings


def two_rows_of(first: str, second: str) -> IdBags:
    """The first feature has two ids and none; the second none and one."""
    lengths = torch.tensor([2, 0, 0, 1])
    return IdBags((first, second), torch.tensor([1, 2, 3]), lengths, ids_per_feature=(2, 1))


@pytest.mark.parametrize("name", ["items", "type", "values", "training", "forward", "weight"])
def test_a_feature_may_be_called_like_an_attribute_of_a_module(name: str) -> None:
    data = data_of({name: id_feature(), "plain": id_feature()})
    tables = EmbeddingBagCollection(tables=table_descriptions(data))
    pooled = tables(keyed_jagged(two_rows_of(name, "plain")))
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


def test_ids_become_torchrec_s_without_a_copy_and_with_their_numbers_on_the_host() -> None:
    ids = two_rows_of("item", "city")
    jagged = keyed_jagged(ids)
    assert jagged.values().data_ptr() == ids.values.data_ptr()
    assert jagged.lengths().data_ptr() == ids.lengths.data_ptr()
    assert jagged.length_per_key_or_none() == [2, 1]
    assert jagged.stride() == 2
    for name in ids.names:
        values, lengths = ids.bags_of(name)
        assert torch.equal(jagged[name].values(), values)
        assert torch.equal(jagged[name].lengths(), lengths)
