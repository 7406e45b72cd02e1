"""The run that Recon writes."""

from pathlib import Path

from recsys_mtl.config.file import load_config
from recsys_mtl.driver.recon import with_own_layers
from tests.unit.run_files import write_run


def test_a_search_that_the_file_asks_for_does_not_end_the_new_run(tmp_path: Path) -> None:
    layers = "model.bottom_hidden_sizes=[8, 4]"
    search = "recon={threshold: 0, search_only: true}"
    new = with_own_layers(load_config(write_run(tmp_path), (layers, search)), ["bottom.layers.1"])
    assert new.model.task_specific_layers == ("bottom.layers.1",)
    assert new.recon is not None
    assert not new.recon.search_only
    assert with_own_layers(load_config(write_run(tmp_path), (layers,)), []).recon is None
