"""Decisions of the driver that need no cluster."""

from pathlib import Path
from typing import Any

import pytest
import torch

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver import cluster
from tests.unit.run_files import write_run


def configured(tmp_path: Path, device: str, workers: int = 2) -> RunConfig:
    overrides = (f"cluster.device={device}", f"cluster.num_workers={workers}")
    return load_config(write_run(tmp_path), overrides)


@pytest.mark.parametrize(
    ("device", "gpus", "cuda_torch", "expected"),
    [
        ("cpu", 8, True, "cpu"),
        ("auto", 2, True, "cuda"),
        ("auto", 1, True, "cpu"),
        ("auto", 2, False, "cpu"),
        ("cuda", 2, True, "cuda"),
    ],
)
def test_the_device_follows_the_configuration_and_the_cluster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    gpus: int,
    cuda_torch: bool,
    expected: str,
) -> None:
    pretend(monkeypatch, gpus, cuda_torch)
    assert cluster.device_of(configured(tmp_path, device)) == expected


@pytest.mark.parametrize(("gpus", "cuda_torch"), [(0, True), (1, True), (2, False)])
def test_cuda_without_what_it_needs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, cuda_torch: bool
) -> None:
    pretend(monkeypatch, gpus, cuda_torch)
    with pytest.raises(UserError, match=f"has {gpus} GPU"):
        cluster.device_of(configured(tmp_path, "cuda"))


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int, cuda_torch: bool) -> None:
    resources: dict[str, Any] = {"CPU": 4.0, "GPU": float(gpus)}
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: resources)
    monkeypatch.setattr(torch.version, "cuda", "13.0" if cuda_torch else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda_torch)
