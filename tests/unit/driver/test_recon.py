"""The run that Recon writes."""

from pathlib import Path

from recsys_mtl.config.file import load_config
from recsys_mtl.driver.recon import name_of_new_run, with_own_layers
from recsys_mtl.driver.recon_scores import Order
from tests.unit.run_files import write_run


def test_a_search_that_the_file_asks_for_does_not_end_the_new_run(tmp_path: Path) -> None:
    layers = "model.bottom_hidden_sizes=[8, 4]"
    search = "recon={threshold: 0, search_only: true}"
    config = load_config(write_run(tmp_path), (layers, search))
    new = with_own_layers(config, ["bottom.layers.1"], "demo-recon-1")
    assert new.model.task_specific_layers == ("bottom.layers.1",)
    assert new.recon is not None
    assert not new.recon.search_only
    assert with_own_layers(load_config(write_run(tmp_path), (layers,)), [], "other").recon is None


def test_every_number_of_layers_and_every_order_is_a_run_of_its_own(tmp_path: Path) -> None:
    config = load_config(write_run(tmp_path), ("run.name=demo",))
    choices: list[tuple[int, Order, int]] = [
        (1, "highest", 0),
        (2, "highest", 0),
        (2, "lowest", 0),
        (2, "last", 0),
        (2, "random", 0),
        (2, "random", 7),
    ]
    names = [name_of_new_run(config, *choice) for choice in choices]
    ends = ["1", "2", "2-lowest", "2-last", "2-random-0", "2-random-7"]
    assert names == [f"demo-recon-{end}" for end in ends]
