"""Which layers a search's scores choose, and whose scores are taken."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.recon_scores import (
    LayerScore,
    Order,
    Scores,
    chosen_layers,
    read_scores,
    refuse_another_network,
    table_bytes,
)
from tests.unit.run_files import write_run


def scores_of(*pairs: int, hidden_sizes: Sequence[int] | None = None) -> Scores:
    """Of a bottom whose layers have so many conflicting pairs, from the inputs up."""
    return Scores(
        run="runs/demo-recon-search",
        method="uniform",
        tasks=("purchase", "cart"),
        hidden_sizes=tuple(hidden_sizes or [8] * len(pairs)),
        threshold=-0.1,
        search_steps=10,
        layers={
            f"bottom.layers.{depth}": LayerScore(
                parameters=72, conflicting_pairs=conflicting, compared_pairs=10
            )
            for depth, conflicting in enumerate(pairs)
        },
        tables={},
    )


@pytest.mark.parametrize(
    ("pairs", "count", "order", "depths"),
    [
        ([1, 9, 5, 7], 2, "highest", [1, 3]),
        ([1, 9, 5, 7], 2, "lowest", [0, 2]),
        ([1, 9, 5, 7], 2, "last", [2, 3]),
        ([1, 9, 5, 7], 4, "highest", [0, 1, 2, 3]),
        # Of equals, the layer nearer to the heads is made task-specific first.
        ([3, 3, 3, 3], 1, "highest", [3]),
        ([3, 3, 3, 3], 1, "lowest", [0]),
    ],
)
def test_layers_are_chosen_by_their_conflicts_and_named_from_the_inputs_up(
    pairs: list[int], count: int, order: Order, depths: list[int]
) -> None:
    expected = tuple(f"bottom.layers.{depth}" for depth in depths)
    assert chosen_layers(scores_of(*pairs), count, order) == expected


def test_a_draw_follows_from_its_seed_and_reaches_every_layer() -> None:
    scores = scores_of(4, 3, 2, 1)
    draws = [chosen_layers(scores, 2, "random", seed) for seed in range(60)]
    assert draws == [chosen_layers(scores, 2, "random", seed) for seed in range(60)]
    assert len(set(draws)) == 6, "each pair of four layers"


def test_scores_read_back_as_they_were_written(tmp_path: Path) -> None:
    place = tmp_path / "recon.json"
    place.write_text(scores_of(1, 2).model_dump_json())
    assert read_scores(str(place)) == scores_of(1, 2)
    for text in ("", "[]", "{}", scores_of(1).model_dump_json().replace("72", "-72")):
        place.write_text(text)
        with pytest.raises(UserError, match=r"--scores .*is no recon\.json of this version"):
            read_scores(str(place))


@pytest.mark.parametrize(
    ("overrides", "fits"),
    [
        ([], True),
        (["data.labels={a: a, b: b, c: c}", "method={kind: uniform}"], True),
        (["model.bottom_hidden_sizes=[16, 4]"], False),
        (["model.bottom_hidden_sizes=[16, 8, 8]"], False),
        (["model.task_specific_layers=[bottom.layers.1]"], False),
        (["model.body={kind: mmoe}", "model.bottom_hidden_sizes=[16, 4]"], False),
    ],
)
def test_scores_are_of_the_same_layers_whatever_the_tasks(
    tmp_path: Path, overrides: list[str], fits: bool
) -> None:
    sizes = "model.bottom_hidden_sizes=[16, 8]"
    config = load_config(write_run(tmp_path), (sizes, *overrides))
    scores = scores_of(1, 2, hidden_sizes=[16, 8])
    if fits:
        refuse_another_network(scores, config, "there")
        return
    with pytest.raises(UserError, match="--scores there is of another network"):
        refuse_another_network(scores, config, "there")


@pytest.mark.parametrize(
    ("kind", "expected"), [("sgd", 3200), ("rowwise_adagrad", 3600), ("adagrad", 6400)]
)
def test_a_table_takes_its_rows_and_what_its_optimizer_keeps_of_them(
    tmp_path: Path, kind: str, expected: int
) -> None:
    config = load_config(write_run(tmp_path), (f"optimizer.tables.kind={kind}",))
    found = table_bytes(config)["item"]
    # One more row than asked for holds nulls.
    assert found == expected + expected // 100
