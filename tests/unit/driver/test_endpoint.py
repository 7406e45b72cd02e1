"""What the driver sees to before it starts anything."""

import json
from pathlib import Path

import pytest

from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.endpoint import Endpoint
from tests.unit.run_files import write_run


def endpoint(folder: Path, *overrides: str) -> Endpoint:
    return Endpoint(load_config(write_run(folder), overrides))


@pytest.mark.parametrize("text", ["", " \n", "two words", "na\u00efve"])
def test_a_token_that_cannot_be_sent_is_refused_without_showing_it(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(UserError, match="must hold one token") as refused:
        endpoint(tmp_path, f"metrics.bearer_token_file={tmp_path}/token")
    assert not text.strip() or text not in str(refused.value)


def test_a_token_s_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bearer_token_file '.*/none' cannot be read \(No such"):
        endpoint(tmp_path, f"metrics.bearer_token_file={tmp_path}/none")


def test_a_run_is_announced_by_name_and_taken_back(tmp_path: Path) -> None:
    made = endpoint(tmp_path, f"metrics.discovery_folder={tmp_path}/sd/runs")
    file = tmp_path / "sd/runs/demo.json"
    assert json.loads(file.read_text()) == [], "the endpoint is not there yet"
    made.close()
    assert list(file.parent.iterdir()) == []


def test_where_another_driver_of_the_run_is_found_stays(tmp_path: Path) -> None:
    made = endpoint(tmp_path, f"metrics.discovery_folder={tmp_path}/sd/runs")
    file = tmp_path / "sd/runs/demo.json"
    file.write_text('[{"targets": ["10.0.0.2:9400"], "labels": {}}]')
    made.close()
    assert "10.0.0.2:9400" in file.read_text()


def test_a_discovery_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"discovery_folder '.*/file/sd' cannot be written to"):
        endpoint(tmp_path, f"metrics.discovery_folder={tmp_path}/file/sd")
