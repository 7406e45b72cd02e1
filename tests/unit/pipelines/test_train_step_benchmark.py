"""The benchmark of whole steps checks every method before it times one."""

import json
from pathlib import Path

import pytest
import torch

from pipelines.benchmarks import step_check, train_step

ALIKE = (
    *("gradops_static", "dw", "pcgrad", "pcgrad_dw", "gradvac", "cagrad", "upgrad", "gradnorm"),
    *("mmoe_uniform", "ple_uniform", "uniform_search", "torchjd_gradvac", "torchjd_cagrad"),
)
"""They differ from those tried on [T, T], in the body or in the peer's weighting alone; a benchmark
that times them checks them first."""
SMALL = ["--batch-size", "32", "--rounds", "1"]


@pytest.fixture(autouse=True)
def keep_threads() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_methods_are_right_and_are_written(tmp_path: Path) -> None:
    names = [name for name in train_step.METHODS if name not in ALIKE]
    arguments = ["--methods", *names, "--json", str(tmp_path / "found.json")]
    train_step.main([*SMALL, *arguments])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["threads"] == 1
    assert [row["name"] for row in found["rows"]] == names
    assert {(row["T"], row["P"], row["batch_size"]) for row in found["rows"]} == {(3, 1443712, 32)}
    assert found["rows"][0]["ratio"] == 1.0


def test_a_method_that_is_wrong_is_named_and_nothing_is_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(step_check, "ALPHA", 3.0)  # what is expected, not what is trained
    with pytest.raises(SystemExit, match=r"wrong update: gradops \(relative.*nothing was timed"):
        train_step.main([*SMALL, "--methods", "gradops", "--json", str(tmp_path / "found.json")])
    assert not (tmp_path / "found.json").exists()
