"""What a worker in its driver's process is given: commits, checkpoints, and the run's exporter."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.driver.local_checkpoints import LocalCheckpoints
from recsys_mtl.driver.local_host import LocalHost
from recsys_mtl.exporter.actor import RunExporter
from tests.unit.exporter.snapshots import INFO, snapshot


@pytest.fixture
def exporter() -> RunExporter:
    return RunExporter(INFO)


def host_of(run: Path, exporter: RunExporter) -> LocalHost:
    context = WorkerContext(0, 1, 1, torch.device("cpu"))
    return LocalHost(context, exporter, LocalCheckpoints(str(run)))


def metrics(step: int) -> dict[str, Any]:
    """What a worker says with a checkpoint, as far as its host reads it."""
    return {"step": step, "scores": {}}


def write(folder: Path) -> None:
    (folder / "run.json").write_text("12345")


def test_a_commit_is_done_when_it_returns_and_a_later_process_finds_it(
    tmp_path: Path, exporter: RunExporter
) -> None:
    host, before = host_of(tmp_path, exporter), time.time()
    assert host.last_checkpoint() is None
    committed = host.commit(write, metrics(3)).wait()
    assert before <= committed.committed_at <= time.time()
    assert committed.size_bytes == 5
    assert 0 < committed.seconds < 60
    assert host.metrics == metrics(3)
    for found in (host.last_checkpoint(), host_of(tmp_path, exporter).last_checkpoint()):
        assert found is not None
        assert found.read("run.json") == b"12345"


def test_a_commit_that_fails_leaves_the_metrics_of_the_last_one(
    tmp_path: Path, exporter: RunExporter
) -> None:
    def fail(folder: Path) -> None:
        raise OSError("the disk is full")

    host = host_of(tmp_path, exporter)
    host.commit(write, metrics(3))
    with pytest.raises(OSError, match="full"):
        host.commit(fail, metrics(6))
    assert host.metrics == metrics(3)


def test_the_exporter_has_each_snapshot_as_soon_as_it_was_sent(
    tmp_path: Path, exporter: RunExporter
) -> None:
    feed = host_of(tmp_path, exporter).feed
    feed.begin(["worker 0: all tables"], [])
    for step in (10, 20):
        feed.send(snapshot(step=step))
        shown = exporter.status().view.snapshot
        assert shown is not None
        assert shown.step == step
    feed.close()
    (attempt,) = exporter.status().view.attempts
    assert attempt.sharding == ("worker 0: all tables",)


def test_the_driver_s_wish_to_stop_arrives(tmp_path: Path, exporter: RunExporter) -> None:
    feed = host_of(tmp_path, exporter).feed
    assert not feed.stop_asked()
    exporter.ask_to_stop()
    assert feed.stop_asked()
