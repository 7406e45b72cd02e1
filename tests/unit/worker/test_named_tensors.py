"""A load says what it takes, what it lacks and what it leaves, and takes exactly the first."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.model.flat_memory import FlatMemory
from recsys_mtl.worker.named_tensors import (
    CheckpointError,
    OtherShape,
    compare_tensors,
    load_matching,
    save_tensors,
)

pytestmark = pytest.mark.usefixtures("alone")

SHAPES = {"bottom.layers.0.weight": (4, 3), "bottom.layers.0.bias": (4,)}


def fresh_tensors(shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, Tensor]:
    print("seed", torch.seed())
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def fresh_memory() -> FlatMemory:
    """Flat memory of SHAPES in one layer, and 48 numbers of padding."""
    parameters = {name: nn.Parameter(value) for name, value in fresh_tensors().items()}
    return FlatMemory(parameters, {"bottom.layers.0": tuple(SHAPES)}, torch.device("cpu"))


def test_everything_is_matched_where_names_and_shapes_are_the_same(tmp_path: Path) -> None:
    saved = fresh_tensors()
    save_tensors(saved, tmp_path)
    wanted = {name: torch.zeros_like(tensor) for name, tensor in saved.items()}
    report = load_matching(wanted, tmp_path)
    assert report.matched == tuple(SHAPES)
    assert report.is_complete
    assert report.new == report.dropped == report.other_shape == ()
    assert all(torch.equal(wanted[name], tensor) for name, tensor in saved.items())


def test_values_are_loaded_from_other_names(tmp_path: Path) -> None:
    saved = fresh_tensors({"tables.a": (3,), "tables.b": (3,), "tables.c": (2,)})
    save_tensors(saved, tmp_path)
    names = {"tables.b": "tables.a", "tables.a": "tables.b", "tables.d": "tables.c"}
    wanted = fresh_tensors(dict.fromkeys((*names, "tables.c"), (3,)))
    before = wanted["tables.c"].clone()
    report = load_matching(wanted, tmp_path, names | {"tables.c": None})
    assert report.matched == ("tables.b", "tables.a")
    assert report.new == ("tables.c",)
    assert report.dropped == ()
    assert report.other_shape == (OtherShape("tables.d", saved=(2,), wanted=(3,)),)
    assert torch.equal(wanted["tables.b"], saved["tables.a"])
    assert torch.equal(wanted["tables.a"], saved["tables.b"])
    assert torch.equal(wanted["tables.c"], before)


def test_only_what_is_in_both_with_one_shape_is_loaded(tmp_path: Path) -> None:
    saved = fresh_tensors(SHAPES | {"heads.cart.0.weight": (1, 4), "heads.wish.0.weight": (1, 4)})
    save_tensors(saved, tmp_path)
    wanted = fresh_tensors(
        {
            "heads.wish.0.weight": (2, 4),
            "bottom.layers.0.bias": (4,),
            "heads.purchase.0.weight": (1, 4),
        }
    )
    before = {name: tensor.clone() for name, tensor in wanted.items()}
    report = load_matching(wanted, tmp_path)
    assert report.matched == ("bottom.layers.0.bias",)
    assert report.new == ("heads.purchase.0.weight",)
    assert sorted(report.dropped) == ["bottom.layers.0.weight", "heads.cart.0.weight"]
    assert report.other_shape == (OtherShape("heads.wish.0.weight", saved=(1, 4), wanted=(2, 4)),)
    assert not report.is_complete
    assert torch.equal(wanted["bottom.layers.0.bias"], saved["bottom.layers.0.bias"])
    for name in ("heads.wish.0.weight", "heads.purchase.0.weight"):
        assert torch.equal(wanted[name], before[name])


@pytest.mark.parametrize(
    ("shapes", "incomplete"),
    [
        (SHAPES, False),
        (SHAPES | {"heads.cart.0.bias": (1,)}, True),
        ({"bottom.layers.0.bias": (4,)}, True),
        (SHAPES | {"bottom.layers.0.bias": (5,)}, True),
    ],
)
def test_a_comparison_is_complete_where_nothing_is_new_dropped_or_of_another_shape(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], incomplete: bool
) -> None:
    save_tensors(fresh_tensors(), tmp_path)
    assert compare_tensors(fresh_tensors(shapes), tmp_path).is_complete is not incomplete


def test_comparing_writes_nothing(tmp_path: Path) -> None:
    save_tensors(fresh_tensors(), tmp_path)
    wanted = fresh_tensors()
    before = {name: tensor.clone() for name, tensor in wanted.items()}
    assert compare_tensors(wanted, tmp_path).matched == tuple(SHAPES)
    assert all(torch.equal(wanted[name], tensor) for name, tensor in before.items())


def test_a_checkpoint_of_which_nothing_fits_is_loaded_by_loading_nothing(tmp_path: Path) -> None:
    save_tensors(fresh_tensors(), tmp_path)
    report = load_matching({"other": torch.zeros(3)}, tmp_path)
    assert report.matched == ()
    assert report.new == ("other",)
    assert report.dropped == tuple(SHAPES)


def test_views_of_flat_memory_are_saved_and_written_in_place(tmp_path: Path) -> None:
    first, second = fresh_memory(), fresh_memory()
    second.vector[16:] = 7.0  # the padding, which is no one's
    save_tensors(first.views(first.vector), tmp_path)
    report = load_matching(second.views(second.vector), tmp_path)
    assert report.is_complete
    assert torch.equal(second.vector[:16], first.vector[:16])
    assert second.vector[16:].eq(7.0).all()


def test_a_view_takes_its_own_room_on_disk_and_not_that_of_the_memory_behind_it(
    tmp_path: Path,
) -> None:
    memory = torch.zeros(1_000_000)
    save_tensors({"small": memory[:10]}, tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 100_000


def test_names_with_dots_lie_beside_each_other(tmp_path: Path) -> None:
    # As nested keys "a.b" and {"a": {"b": ...}} would be one.
    saved = {"a": torch.tensor(1.0), "a.b": torch.tensor(2.0), "a.b.c": torch.tensor([3.0])}
    save_tensors(saved, tmp_path)
    wanted = {name: torch.zeros_like(tensor) for name, tensor in saved.items()}
    assert load_matching(wanted, tmp_path).matched == ("a", "a.b", "a.b.c")
    assert [tensor.item() for tensor in wanted.values()] == [1.0, 2.0, 3.0]


def test_a_number_is_read_as_exactly_as_it_was_written(tmp_path: Path) -> None:
    saved = {
        "counts": torch.tensor([2**53 + 1], dtype=torch.int64),
        "weights": torch.tensor([1 / 3], dtype=torch.float64),
        "flag": torch.tensor(True),
    }
    save_tensors(saved, tmp_path)
    wanted = {name: torch.zeros_like(tensor) for name, tensor in saved.items()}
    load_matching(wanted, tmp_path)
    assert all(torch.equal(wanted[name], tensor) for name, tensor in saved.items())


def test_what_cannot_be_written_or_read_is_an_ordinary_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written: worker 0: NotADirectoryError"):
        save_tensors(fresh_tensors(), tmp_path / "file" / "checkpoint")
    save_tensors(fresh_tensors(), tmp_path / "checkpoint")
    (part,) = (tmp_path / "checkpoint").glob("*.distcp")
    part.unlink()
    with pytest.raises(CheckpointError, match="cannot be read: worker 0: FileNotFoundError"):
        load_matching(fresh_tensors(), tmp_path / "checkpoint")
