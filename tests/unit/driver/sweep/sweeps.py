"""Sweeps that nobody has trained: cells, and results for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys_mtl.data.manifest import Manifest, RowGroup
from recsys_mtl.driver.sweep.arms import Arm
from recsys_mtl.driver.sweep.cells import Cell, plan_cells
from recsys_mtl.driver.sweep.choice import parse_rule
from recsys_mtl.driver.sweep.logs import Logs
from recsys_mtl.driver.sweep.outcomes import Outcome
from recsys_mtl.driver.sweep.record import Request, sweep_record
from tests.unit.run_files import write_run

TASKS = ("purchase", "cart")
UNIFORM = Arm("uniform", ("method={kind: uniform}",))
ALPHA = Arm("alpha=-1", ("method.alpha=-1",))
ALONE = Arm("single-task", (), single_task=True)


def log(name: str) -> Manifest:
    """A log of 60 rows."""
    return Manifest(f"logs/{name}", (RowGroup("a.parquet", 0, 60),), digest=f"digest-of-{name}")


def cells_of(folder: Path, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Cell]:
    return plan_cells(
        str(write_run(folder)), arms, seeds=seeds, overrides=(), runs_url=f"{folder}/runs"
    )


def result(aucs: Mapping[str, float | None], **changed: Any) -> dict[str, Any]:
    """What a run of 1,000 rows in 10 s leaves, as far as a sweep reads it."""
    steps = {f"{kind}_steps": 0 for kind in ("audited", "opposing", "skipped")}
    return {
        "steps": 20,
        "rows": 1000,
        "rows_per_second": 100.0,
        "tasks": {task: {"auc": auc, "mean_weight": 1.0} for task, auc in aucs.items()},
        "best": None,
        "compared_steps": 20,
        "conflicting_steps": 7,
        **steps,
        **changed,
    }


def outcomes_of(
    cells: Sequence[Cell],
    aucs: Mapping[tuple[str, int], tuple[float, float]],
    test: Mapping[tuple[str, int], tuple[float, float]] | None = None,
) -> list[Outcome]:
    """Outcomes on 2 CPUs; a cell whose (arm, seed) has no AUC is not finished."""
    made = []
    for cell in cells:
        found, judged = aucs.get((cell.arm, cell.seed)), (test or {}).get((cell.arm, cell.seed))
        named = None if found is None else _of_cell(cell, found)
        made.append(
            Outcome(
                cell,
                None if named is None else result(named),
                2,
                None if judged is None else {"tasks": result(_of_cell(cell, judged))["tasks"]},
                None,
            )
        )
    return made


def _of_cell(cell: Cell, aucs: tuple[float, float]) -> dict[str, float | None]:
    both = dict(zip(TASKS, aucs, strict=True))
    return {task: auc for task, auc in both.items() if cell.task in (None, task)}


def request(
    arms: Sequence[Arm], seeds: Sequence[int], rule: str | None = None, test: str | None = None
) -> Request:
    return Request(
        run_yaml="run.yaml",
        arms=arms,
        seeds=seeds,
        overrides=("data.lanes=4",),
        tasks=TASKS,
        baseline=arms[0].name,
        test=test,
        rule=None if rule is None else parse_rule(rule, TASKS),
    )


def record_of(
    asked: Request,
    outcomes: Sequence[Outcome],
    *,
    test: Manifest | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return sweep_record(
        asked,
        outcomes,
        Logs(log("train"), log("eval"), test),
        earlier or {},
        url="/sweeps/demo",
        log_of={outcome.cell.name: f"{outcome.cell.name}.log" for outcome in outcomes},
    )
