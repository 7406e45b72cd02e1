"""What the driver sees to before it starts anything, and an exporter of its own process."""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.endpoint import Endpoint
from recsys_mtl.driver.events import choose_format
from recsys_mtl.exporter.actor import RunExporter
from tests.unit.exporter.snapshots import INFO
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


@pytest.fixture
def exporter() -> Iterator[RunExporter]:
    made = RunExporter(INFO)
    yield made
    made.close()


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def url_told(capsys: pytest.CaptureFixture[str]) -> str:
    (url,) = [
        json.loads(line)["url"]
        for line in capsys.readouterr().out.splitlines()
        if json.loads(line)["event"] == "metrics"
    ]
    return str(url)


def without_end() -> float:
    return float("inf")


@pytest.fixture(autouse=True)
def _events_as_json() -> Iterator[None]:
    choose_format("json")
    yield
    choose_format("auto")


def test_the_page_is_where_it_is_told_to_be(
    tmp_path: Path, exporter: RunExporter, capsys: pytest.CaptureFixture[str]
) -> None:
    made = endpoint(tmp_path, f"metrics.discovery_folder={tmp_path}/sd")
    made.start(exporter, "127.0.0.1")
    url = url_told(capsys)
    assert 'recsys_mtl_run_state{run="demo",state="running"} 1.0' in page(url)
    ((target,),) = [t["targets"] for t in json.loads((tmp_path / "sd/demo.json").read_text())]
    assert f"http://{target}/metrics" == url
    made.close()


def test_where_nobody_has_scraped_the_end_is_not_waited_for(
    tmp_path: Path, exporter: RunExporter
) -> None:
    made = endpoint(tmp_path)
    made.start(exporter, "127.0.0.1")
    before = time.monotonic()
    made.end("finished", seconds_left=without_end)
    assert time.monotonic() - before < 5


def test_who_has_scraped_sees_the_end_twice(
    tmp_path: Path, exporter: RunExporter, capsys: pytest.CaptureFixture[str]
) -> None:
    made = endpoint(tmp_path)
    made.start(exporter, "127.0.0.1")
    url = url_told(capsys)
    page(url)
    ending = threading.Thread(target=partial(made.end, "finished", seconds_left=without_end))
    ending.start()
    for _ in range(2):
        time.sleep(1)
        assert ending.is_alive()
        assert 'recsys_mtl_run_state{run="demo",state="finished"} 1.0' in page(url)
    ending.join(timeout=10)
    assert not ending.is_alive()


def test_a_port_that_is_taken_leaves_the_run_without_a_page(
    tmp_path: Path, exporter: RunExporter, capsys: pytest.CaptureFixture[str]
) -> None:
    other = RunExporter(INFO)
    port = other.serve("127.0.0.1", [0], None)
    made = endpoint(tmp_path, f"metrics.port={port}", "metrics.bind_address=127.0.0.1")
    made.start(exporter, "127.0.0.1")
    other.close()
    told = capsys.readouterr().out
    assert "no metrics endpoint on 127.0.0.1" in told
    status = made.status()
    assert status is not None
    assert status.port is None
