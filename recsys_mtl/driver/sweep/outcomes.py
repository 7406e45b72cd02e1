"""What each cell of a sweep has come to, read from the folder of its run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recsys_mtl.driver.sweep.cells import Cell


@dataclass(frozen=True)
class Failure:
    """How a cell's process ended that did not come to its end."""

    status: int
    """Exit status; the negative number of a signal that killed it."""
    last_line: str
    """Of its log."""


@dataclass(frozen=True)
class Outcome:
    """One cell of a sweep: finished, failed, or still to be trained."""

    cell: Cell
    result: Mapping[str, Any] | None
    """Its run's result.json; None before the run's end."""
    cpus: int
    """That all workers of the run reserve together."""
    test: Mapping[str, Any] | None
    """What `evaluate` found on the test log; None where the cell was not judged by it."""
    failure: Failure | None
    """Of this call; a later one trains the cell again."""

    @property
    def status(self) -> str:
        """`finished`, `failed` or `waiting`."""
        if self.failure is not None:
            return "failed"
        return "waiting" if self.result is None else "finished"

    @property
    def auc(self) -> dict[str, float]:
        """Task to AUC on data.eval: of the best checkpoint where there is one, else of the end."""
        return {} if self.result is None else _aucs(_judged(self.result)["tasks"])

    @property
    def test_auc(self) -> dict[str, float]:
        """Task to AUC on the test log, of the same checkpoint."""
        return {} if self.test is None else _aucs(self.test["tasks"])

    @property
    def seconds(self) -> float:
        """Seconds of training, without start-up, evaluations and checkpoints."""
        return math.nan if self.result is None else _seconds(self.result)

    @property
    def core_hours(self) -> float:
        """Hours of training, times the CPUs that all its workers reserve."""
        return self.seconds * self.cpus / 3600


def judged_checkpoint(result: Mapping[str, Any]) -> str:
    """The checkpoint whose AUC counts: that of the best evaluation, else the last.

    Args:
        result: a run's result.json.
    """
    return str(_judged(result).get("checkpoint", "last"))


def judged_step(result: Mapping[str, Any]) -> int:
    """The step of `judged_checkpoint`."""
    return int(_judged(result).get("step", result["steps"]))


def _judged(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The best evaluation, or what the end has of it: no evaluation may have had a score."""
    best = result.get("best")
    if best is not None and best["checkpoint"] is not None:
        return dict(best)
    return {"tasks": result["tasks"]}


def _aucs(tasks: Mapping[str, Any]) -> dict[str, float]:
    return {t: math.nan if n["auc"] is None else float(n["auc"]) for t, n in tasks.items()}


def _seconds(result: Mapping[str, Any]) -> float:
    return float(result["rows"] / result["rows_per_second"])


def cell_record(outcome: Outcome, log: str) -> dict[str, Any]:
    """What sweep.json says of a cell."""
    cell, result, failure = outcome.cell, outcome.result, outcome.failure
    record: dict[str, Any] = {
        "name": cell.name,
        "arm": cell.arm,
        "seed": cell.seed,
        "task": cell.task,
        "status": outcome.status,
        "url": cell.url,
        "log": log,
        "exit_status": None if failure is None else failure.status,
        "last_line": None if failure is None else failure.last_line,
        "auc": outcome.auc,
        "test_auc": outcome.test_auc,
    }
    if result is None:
        return record
    steps = ("compared", "conflicting", "audited", "opposing", "skipped")
    return record | {
        "checkpoint": judged_checkpoint(result),
        "step": judged_step(result),
        "steps": result["steps"],
        "rows": result["rows"],
        "seconds": outcome.seconds,
        "core_hours": outcome.core_hours,
        "mean_weights": {task: n["mean_weight"] for task, n in result["tasks"].items()},
        **{f"{kind}_steps": result[f"{kind}_steps"] for kind in steps},
    }
