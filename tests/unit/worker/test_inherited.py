"""Which features and names of two runs mean the same, and what is refused or told where not."""

from typing import Any

import pytest

from recsys_mtl.config import Data, RunConfig, UserError, WarmStart
from recsys_mtl.worker.inherited import (
    Columns,
    TableRowsThere,
    feature_changes,
    moved_rows,
    namesakes,
    same_columns,
)
from recsys_mtl.worker.renaming import Renaming, refuse_unknown_names
from recsys_mtl.worker.same_meaning import refuse_other_meanings

ITEM = {"kind": "id", "rows": 30, "embedding_dim": 4}
PRICE = {"kind": "dense"}
RENAMED = Renaming({"item": "product"})


def data(**features: dict[str, Any]) -> Data:
    return Data.model_validate(
        {"train": "log", "eval": "log", "features": features, "labels": {"buy": "bought"}}
    )


def run(features: Data) -> RunConfig:
    return RunConfig.model_validate(
        {
            "run": {"name": "demo"},
            "data": features,
            "method": {"kind": "gradops"},
            "training": {"global_batch_size": 64, "epochs": 1},
        }
    )


def refuse(
    new: Data,
    old: Data,
    rename: dict[str, str] | None = None,
    parts: tuple[str, ...] = ("tables", "dense", "moments"),
    held: tuple[str, str] = ("integer", "integer"),
) -> None:
    """Hold two runs against each other whose column `item` held these."""
    settings = WarmStart.model_validate({"from": "old", "rename": rename or {}, "parts": parts})
    now, before = ({f"data.features.{n}:item": h for n in ("item", "product")} for h in held)
    refuse_other_meanings(run(new), run(old), settings, now, before)


def refusal(*args: Any, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        refuse(*args, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("rename", "here", "there"),
    [
        ({}, "tables.item", "tables.item"),
        ({"item": "product"}, "tables.product", "tables.item"),
        ({"item": "product"}, "tables.item", None),
        ({"item": "product"}, "accumulator.tables.item", None),
        ({"item": "product"}, "tables.items", "tables.items"),
        ({"a": "b", "b": "a"}, "heads.a.0.weight", "heads.b.0.weight"),
        ({"a": "b", "b": "a"}, "heads.b.0.weight", "heads.a.0.weight"),
        ({"a": "b", "b": "c"}, "heads.c.0.weight", "heads.b.0.weight"),
        ({"a": "b", "b": "c"}, "heads.a.0.weight", None),
        ({"layers.0": "layers.1"}, "bottom.layers.1.bias", "bottom.layers.0.bias"),
        ({"layers.0": "layers.1"}, "bottom.layers.0.bias", None),
    ],
)
def test_a_name_that_was_given_away_has_no_namesake(
    rename: dict[str, str], here: str, there: str | None
) -> None:
    assert Renaming(rename).old_name(here) == there
    assert Renaming(rename).old_names([here, "heads.new.0.bias"])[here] == there


def test_two_names_that_would_have_one_name_there_are_refused() -> None:
    both = Renaming({"a.b": "c", "a": "d"})
    with pytest.raises(UserError, match=r"c and d\.b would both begin with a\.b of the other run"):
        both.old_names(["c", "d.b"])


@pytest.mark.parametrize(("old_name", "new_name"), [("age", "years"), ("seen", "watched")])
def test_a_feature_without_a_parameter_of_its_name_can_be_renamed(
    old_name: str, new_name: str
) -> None:
    listed = {"kind": "id", "table": "item"}
    old = data(item=ITEM, seen=listed, age=PRICE)
    new = data(item=ITEM, watched=listed, years=PRICE)
    weights = ["bottom.layers.0.weight", "heads.buy.0.weight"]  # parts: [dense]
    refuse_unknown_names({old_name: new_name}, new, old, here=weights, there=weights)
    refuse_unknown_names({"item": "item", "buy": "buy"}, new, old, here=[], there=[])
    refuse_unknown_names({"layers.0": "layers.0"}, new, old, here=weights, there=weights)


@pytest.mark.parametrize(
    ("rename", "says"),
    [
        (
            {"agee": "years"},
            r"'agee' in the other run \(did you mean age\?\); it has",
        ),
        ({"agee": "years"}, "it has the features item, age and the tasks buy$"),
        ({"layer": "years"}, "nothing is called 'layer' in the other run; it has"),
        ({"age": "old"}, "'age' becomes 'old', but nothing here is called so"),
    ],
)
def test_a_name_that_is_in_neither_run_is_refused(rename: dict[str, str], says: str) -> None:
    old, new = data(item=ITEM, age=PRICE), data(item=ITEM, years=PRICE)
    weights = ["bottom.layers.0.weight"]
    with pytest.raises(UserError, match=says):
        refuse_unknown_names(rename, new, old, here=weights, there=weights)


def test_a_new_feature_may_take_the_name_that_was_given_away() -> None:
    old = data(item=ITEM, seen={"kind": "id", "table": "item"}, price=PRICE)
    new = data(
        item=ITEM, product=ITEM | {"column": "item"}, seen={"kind": "id", "table": "product"}
    )
    assert namesakes(new, old, RENAMED) == {"product": "item", "seen": "seen"}
    assert same_columns(new, old, RENAMED) == [
        Columns(slice(4, 8), slice(0, 4)),
        Columns(slice(8, 12), slice(4, 8)),
    ]
    assert moved_rows(new, old, RENAMED) == {}, "the new item has no rows there"
    refuse(new, old, rename={"item": "product"})


def test_a_new_table_under_the_old_name_is_held_against_nothing() -> None:
    new = data(product=ITEM, item=ITEM | {"rows": 99})
    refuse(new, data(item=ITEM), rename={"item": "product"})
    said = refusal(data(product=ITEM | {"rows": 99}), data(item=ITEM), rename={"item": "product"})
    assert said.startswith("data.features.product.rows is 99 and was 30")


def test_a_feature_that_reads_a_new_table_under_the_old_name_is_refused() -> None:
    old = data(item=ITEM, seen={"kind": "id", "table": "item"})
    new = data(product=ITEM, item=ITEM, seen={"kind": "id", "table": "item"})
    said = refusal(new, old, rename={"item": "product"})
    assert "data.features.seen.table is item (which is new) and was item in the run" in said


def test_a_table_that_was_the_feature_s_own_is_refused() -> None:
    new = data(item=ITEM, seen={"kind": "id", "table": "item"})
    said = refusal(new, data(item=ITEM, seen=ITEM))
    assert "data.features.seen.table is item and was its own in the run" in said


def test_features_that_are_swapped_swap_their_columns() -> None:
    both = data(a=ITEM, b=ITEM)
    assert same_columns(both, both, Renaming({"a": "b", "b": "a"})) == [
        Columns(slice(0, 4), slice(4, 8)),
        Columns(slice(4, 8), slice(0, 4)),
    ]


@pytest.mark.parametrize("parts", [("tables", "dense", "moments"), ("tables",), ("dense",)])
def test_another_pooling_is_refused(parts: tuple[str, ...]) -> None:
    said = refusal(data(item=ITEM | {"pooling": "mean"}), data(item=ITEM), parts=parts)
    assert said.startswith("data.features.item.pooling is mean and was sum in the run of run.warm")
    assert "leave it as it was there, or give the feature another name here" in said


def test_another_transform_is_refused_where_the_body_is_taken_over() -> None:
    old, new = data(price=PRICE), data(cost=PRICE | {"column": "price", "transform": "log1p"})
    said = refusal(new, old, rename={"price": "cost"})
    assert said.startswith("data.features.cost.transform is log1p and was identity in the run of")
    assert "(with `column: price`)" in said
    refuse(new, old, rename={"price": "cost"}, parts=("tables", "moments"))


@pytest.mark.parametrize("parts", [("tables",), ("dense", "moments")])
def test_rows_and_types_are_compared_wherever_something_of_each_row_is_taken(
    parts: tuple[str, ...],
) -> None:
    old = data(item=ITEM)
    assert "rows is 31 and was 30" in refusal(data(item=ITEM | {"rows": 31}), old, parts=parts)
    said = refusal(old, old, parts=parts, held=("string", "integer"))
    assert said.startswith("data.features.item holds strings in data.train and held integers")
    refuse(data(item=ITEM | {"rows": 31}), old, parts=("dense",))


def test_other_means_and_scales_are_told_and_not_refused() -> None:
    old = data(price=PRICE, age=PRICE, item=ITEM)
    new = data(
        cost={"kind": "dense", "column": "price", "mean": 100.0, "std": 0.5, "fill": -1.5},
        age=PRICE,
        item=ITEM,
    )
    refuse(new, old, rename={"price": "cost"})
    changes = feature_changes(new, old, Renaming({"price": "cost"}))
    assert changes.changed == ("cost: mean 0 -> 100, std 1 -> 0.5, fill 0 -> -1.5",)
    assert changes.new == changes.dropped == ()


def test_a_feature_of_another_kind_begins_anew() -> None:
    old = data(item=ITEM, age=PRICE, price=PRICE)
    new = data(age=ITEM, seen={"kind": "id", "table": "age"}, item=PRICE, price=PRICE)
    nothing = Renaming({})
    refuse(new, old)
    assert moved_rows(new, old, nothing) == {}
    # There: item 0-4, age 4, price 5. Here: age 0-4, seen 4-8, item 8, price 9.
    assert same_columns(new, old, nothing) == [Columns(slice(9, 10), slice(5, 6))]
    changes = feature_changes(new, old, nothing)
    assert changes.changed == ("age: kind dense -> id", "item: kind id -> dense")
    assert changes.new == ("age", "seen", "item")
    assert changes.dropped == ("item", "age")


def test_a_sharer_that_was_a_number_there_has_no_row_for_nulls_there() -> None:
    old = data(item=ITEM, seen=PRICE)
    new = data(seen={"kind": "id", "table": "item"}, item=ITEM)
    expected = TableRowsThere(31, ((slice(0, 30), slice(0, 30)), (slice(31, 32), slice(30, 31))))
    assert moved_rows(new, old, Renaming({})) == {"item": expected}


def test_columns_of_a_table_that_became_wider_are_not_taken() -> None:
    old, new = data(item=ITEM, price=PRICE), data(item=ITEM | {"embedding_dim": 8}, price=PRICE)
    assert same_columns(new, old, Renaming({})) == [Columns(slice(8, 9), slice(4, 5))]
    assert feature_changes(new, old, Renaming({})).changed == ("item: embedding_dim 4 -> 8",)


def city(*vocabulary: str | int) -> dict[str, Any]:
    return {"kind": "one_hot", "vocabulary": vocabulary}


def test_a_vocabulary_is_taken_over_value_by_value() -> None:
    old = data(item=ITEM, city=city("Oslo", "Rio", "Bergen"), price=PRICE)
    new = data(town=city("Rio", "Lima", "Oslo"), item=ITEM, price=PRICE)
    # There: item 0-4, Oslo 4, Rio 5, Bergen 6, other 7, missing 8, price 9.
    # Here: item 0-4, Rio 4, Lima 5, Oslo 6, other 7, missing 8, price 9.
    pairs = [(4, 5), (5, 7), (6, 4), (7, 7), (8, 8)]
    assert same_columns(new, old, Renaming({"city": "town"})) == [
        *(Columns(slice(here, here + 1), slice(there, there + 1)) for here, there in pairs),
        Columns(slice(0, 4), slice(0, 4)),
        Columns(slice(9, 10), slice(9, 10)),
    ]
    changes = feature_changes(new, old, Renaming({"city": "town"}))
    assert changes.changed == (
        "town: vocabulary with 1 more values ('Lima'), without 1 values ('Bergen')",
    )


def test_the_same_vocabulary_is_taken_over_as_it_is_and_its_order_is_told() -> None:
    old, moved = data(city=city(3, 1), item=ITEM), data(item=ITEM, city=city(3, 1))
    assert same_columns(moved, old, Renaming({})) is None, "embeddings come first in both"
    assert feature_changes(moved, old, Renaming({})).changed == ()
    assert feature_changes(data(city=city(1, 3)), data(city=city(3, 1)), Renaming({})).changed == (
        "city: vocabulary in another order",
    )
    wide = feature_changes(data(city=city(*range(9))), data(city=city(0)), Renaming({}))
    assert wide.changed == ("city: vocabulary with 8 more values (1, 2, 3, 4, 5, and 3 others)",)


def test_a_vocabulary_of_another_type_is_refused_where_the_body_is_taken_over() -> None:
    new, old = data(city=city("1", "2")), data(city=city(1, 2))
    said = refusal(new, old)
    assert said.startswith("data.features.city.vocabulary is of strings and was of integers in")
    refuse(new, old, parts=("tables",))
