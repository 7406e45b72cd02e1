"""A run's only worker in its driver's process: its device, and how it ends where it fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.distributed.alone import alone
from recsys_mtl.driver import local_runner
from recsys_mtl.driver.local_runner import LocalRunner
from recsys_mtl.driver.runner import TrainingError, runner_of
from recsys_mtl.worker.job import TrainJob
from tests.unit.exporter.snapshots import INFO
from tests.unit.run_files import write_run


def runner(folder: Path, device: str = "cpu") -> LocalRunner:
    overrides = ("cluster.num_workers=0", f"cluster.device={device}", "cluster.cpus_per_worker=2")
    made = runner_of(load_config(write_run(folder), overrides))
    assert isinstance(made, LocalRunner)
    return made


@pytest.mark.parametrize(
    ("wanted", "has_gpu", "device"),
    [("cpu", True, "cpu"), ("auto", True, "cuda"), ("auto", False, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_follows_the_configuration_and_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, has_gpu: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert runner(tmp_path, wanted).start() == device


def test_cuda_without_a_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"num_workers is 0, but this process has no GPU .*auto"):
        runner(tmp_path, "cuda").start()


def test_a_process_that_trains_something_else_is_refused_before_anything_happens(
    tmp_path: Path,
) -> None:
    with (
        alone("cpu", num_threads=1, timeout_seconds=60),
        pytest.raises(UserError, match="process group already"),
    ):
        runner(tmp_path).start()


def train(folder: Path, monkeypatch: pytest.MonkeyPatch, body: Callable[[Any], None]) -> None:
    """Train with this in place of the loop; it is given the host."""
    monkeypatch.setattr(local_runner, "train_run", lambda host, job: body(host))
    training = runner(folder)
    training.start_exporter(INFO)
    log = Manifest("", (), digest="")
    job = TrainJob(training._config, "cpu", log, log, run_url=f"{folder}/runs/demo", last_step=1)
    training.fit(job)


def test_it_trains_with_the_threads_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    train(tmp_path, monkeypatch, lambda _: threads.append(torch.get_num_threads()))
    assert threads == [2]


@pytest.mark.parametrize(
    ("raised", "expected", "says"),
    [
        (RuntimeError("Traceback:\n  no batch"), TrainingError, r"'demo' failed \(no batch\); the"),
        (UserError("mend the log"), UserError, "mend the log"),
        (KeyboardInterrupt("Ctrl-C"), KeyboardInterrupt, "Ctrl-C"),
    ],
)
def test_what_training_raises_is_told_and_no_process_group_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    expected: type[BaseException],
    says: str,
) -> None:
    def fail(host: Any) -> None:
        assert dist.is_initialized()
        raise raised

    with pytest.raises(expected, match=says) as caught:
        train(tmp_path, monkeypatch, fail)
    assert not dist.is_initialized()
    assert raised in (caught.value, caught.value.__cause__), "a debugger gets to where it happened"
