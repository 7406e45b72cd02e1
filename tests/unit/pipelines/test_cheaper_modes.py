"""The table of modes, and what is trained for it."""

import io
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from pipelines.experiments import cheaper_modes
from recsys_mtl.config.file import load_config
from tests.unit.run_files import write_run


def result(cart: float | None, wish: float, opposed: int = 0, audited: int = 0) -> dict[str, Any]:
    return {
        "tasks": {"cart": {"auc": cart}, "wish": {"auc": wish}},
        "opposing_steps": opposed,
        "audited_steps": audited,
    }


def printed(results: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    text = io.StringIO()
    Console(file=text, width=200).print(cheaper_modes.table(results))
    lines = [line.split("  ") for line in text.getvalue().splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return [line for line in cells if len(line) > 1]


def test_a_line_says_mean_and_deviation_over_seeds_and_sums_the_audits() -> None:
    lines = printed(
        {
            "exact": [result(0.8, 0.7), result(0.9, 0.7)],
            "refresh 8": [result(0.8, 0.5, 1, 10), result(None, 0.5, 2, 10)],
        }
    )
    assert lines[0] == ["mode", "cart", "wish", "opposed"]
    assert lines[-2] == ["exact", "0.8500±0.0707", "0.7000±0.0000", "-"]
    assert lines[-1] == ["refresh 8", "-", "0.5000±0.0000", "3 of 20"]


def test_one_seed_has_no_deviation() -> None:
    assert printed({"exact": [result(0.8, 0.7)]})[-1][1] == "0.8000"


def test_every_mode_is_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_yaml, trained = write_run(tmp_path), []

    def train(command: list[str]) -> SimpleNamespace:
        settings = command[6::2]
        config = load_config(run_yaml, settings)
        folder = Path(config.run.storage_path) / config.run.name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"seed": config.run.seed}))
        trained.append(config)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", train)
    monkeypatch.setattr(cheaper_modes, "table", lambda results: repr(results))
    storage = str(tmp_path / "runs")
    cheaper_modes.main([str(run_yaml), "--seeds", "4", "5", "--storage-path", storage])
    assert len({config.run.name for config in trained}) == len(trained) == 6
    kinds = [(c.gradients.space, c.gradients.refresh_interval_steps, c.run.seed) for c in trained]
    assert kinds == [
        (space, refresh, seed)
        for space, refresh in (("parameters", 1), ("parameters", 8), ("representation", 1))
        for seed in (4, 5)
    ]


def test_a_run_that_fails_ends_it_with_its_status(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        cheaper_modes.main([str(tmp_path / "none.yaml"), "--storage-path", str(tmp_path)])
    assert ended.value.code == 2
