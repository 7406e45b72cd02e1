"""An experiment's command line whose sweeps are made by hand: to train them takes hours.

That experiments read what a real sweep returns, tests/in_process/test_census_table.py shows.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.experiments.shared.command import Asked
from recsys_mtl.driver.sweep import Arm

ScoreOf = Callable[[Arm, int], float]
"""Arm and seed to the AUC of every task, on all rows."""


@dataclass(frozen=True)
class HandMade(Asked):
    """What is asked; its sweeps are finished at once, with the scores of a function."""

    tasks: tuple[str, ...] = ()
    score: ScoreOf = lambda arm, seed: 0.5
    arms: dict[str, list[Arm]] = field(default_factory=dict)
    """Folder to the arms that were to be trained there."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Arm to what it takes, where it is not 1."""
    result: dict[str, Any] = field(default_factory=dict)
    """Of every run."""
    failed: set[str] = field(default_factory=set)
    """Arms of which no run comes to its end."""

    def sweep(
        self, run_yaml: Path, arms: Sequence[Arm], folder: str, **more: Any
    ) -> dict[str, Any]:
        """A finished sweep's record."""
        self.arms[folder] = list(arms)
        cells = [self._cell(arm, s, folder) for arm in arms for s in more.get("seeds", self.seeds)]
        seconds = {arm.name: self.seconds.get(arm.name, 1.0) for arm in arms}
        return {
            "url": str(self.out / folder),
            "tasks": list(self.tasks),
            "arms": [
                {"name": name, "core_hours": s / 3600, "rows_per_core_hour": 3.6e6 / s}
                for name, s in seconds.items()
            ],
            "cells": cells,
        }

    def _cell(self, arm: Arm, seed: int, folder: str) -> dict[str, Any]:
        url = self.out / folder / f"{arm.name}-{seed}"
        url.mkdir(parents=True, exist_ok=True)
        (url / "result.json").write_text(json.dumps(self.result))
        status = "failed" if arm.name in self.failed else "finished"
        if status == "failed":
            return {"arm": arm.name, "seed": seed, "status": status, "auc": {}, "test_auc": {}}
        aucs = dict.fromkeys(self.tasks, self.score(arm, seed))
        return {
            "arm": arm.name,
            "seed": seed,
            "status": status,
            "url": str(url),
            "checkpoint": "last",
            "auc": aucs,
            "test_auc": aucs,
            "rows": 1000,
            "seconds": self.seconds.get(arm.name, 1.0),
            "mean_weights": dict.fromkeys(self.tasks, 1.0),
            "compared_steps": 10,
            "conflicting_steps": 4,
        }
