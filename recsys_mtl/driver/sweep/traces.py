"""What the picture of a sweep needs of its runs: what arms differ in, and their weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from recsys_mtl.config.changes import settings_of
from recsys_mtl.driver.sweep.cells import Cell
from recsys_mtl.driver.sweep.outcomes import Outcome
from recsys_mtl.metrics.trace import read_trace


def settings_by_arm(cells: Sequence[Cell]) -> dict[str, Mapping[str, Any]]:
    """Every setting of each arm whose runs have all tasks, but for the run's name and seed."""
    return {
        cell.arm: {p: v for p, v in settings_of(cell.config).items() if not p.startswith("run.")}
        for cell in cells
        if cell.task is None
    }


def traces_by_arm(outcomes: Sequence[Outcome]) -> dict[str, list[pa.Table]]:
    """Steps and weights of every finished run with all tasks, arm by arm, one table per seed."""
    found: dict[str, list[pa.Table]] = {}
    for outcome in outcomes:
        config = outcome.cell.config
        if outcome.result is not None and outcome.cell.task is None:
            columns = ["step", *(f"weight_{task}" for task in config.task_names)]
            trace = read_trace(f"{outcome.cell.url}/trace", columns)
            found.setdefault(outcome.cell.arm, []).append(trace)
    return found
