"""Judges a trained run by a log, alone or beside another run on the same rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.config.file import overridden
from recsys_mtl.config.label import Label, judge_alike
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.driver.events import console, finite, log_event
from recsys_mtl.driver.progress import number_or_dash
from recsys_mtl.driver.scoring import run_scoring
from recsys_mtl.driver.trained_run import TrainedRun, open_run, refuse_other_ids, scoring_config
from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.worker.job import EvaluationJob, TrainedModel

_SLICES_SHOWN = 20  # values of a column


def evaluate(
    run_url: str,
    data_url: str | None = None,
    *,
    checkpoint: str = "last",
    group_by: str | None = None,
    slices: Sequence[str] = (),
    against_url: str | None = None,
    against_checkpoint: str = "last",
    max_auc_drop: float | None = None,
    overrides: Sequence[str] = (),
    body: BodyFactory | None = None,
) -> dict[str, Any]:
    """Score a log with a run's model, and return every number asked for, as JSON holds them.

    Args:
        run_url: the run's folder.
        data_url: the log; the run's own data.eval where none is given.
        checkpoint: `last`, `best`, or the name of one.
        group_by: the column by whose values GAUC is taken, and the gate draws.
        slices: columns that have a table each.
        against_url: the folder of a run that scores the same rows.
        against_checkpoint: the same as `checkpoint`, of that run.
        max_auc_drop: how much lower than that run's a task's AUC may be.
        overrides: `A.B=VALUE` each, of settings that only say how to score.
        body: makes the body of one's own that the run was trained with.

    Raises:
        UserError: run, log, column or setting forbid it.
        TrainingError: a worker failed.
    """
    run = open_run(run_url, checkpoint)
    config = scoring_config(run, overrides)
    url = config.data.eval if data_url is None else data_url
    columns = dict.fromkeys(slices, "--slices")
    columns |= {} if group_by is None else {group_by: "--group-by"}
    log = read_manifest(url, config.data, keys=columns)
    refuse_other_ids(run, log)
    other = None
    if against_url is not None:
        other = open_run(against_url, against_checkpoint, named="--against")
    job = EvaluationJob(
        model=TrainedModel(config, run.source, body),
        log=log,
        against=None if other is None else _on_the_same_rows(run, config, other, url, body),
        group_by=group_by,
        slices=tuple(slices),
        max_auc_drop=max_auc_drop,
    )
    found = run_scoring(job, "evaluating", log.rows * (1 if other is None else 2))
    if other is not None:
        found["against"] |= _named(other)
    rows_are_of = {"data": url, "rows": log.rows, "digest": log.digest}
    return dict(finite({"run": _named(run), **rows_are_of, **found}))


def _named(run: TrainedRun) -> dict[str, Any]:
    return {"url": run.url, "checkpoint": run.checkpoint.name, "step": run.checkpoint.step}


def _on_the_same_rows(
    run: TrainedRun, config: RunConfig, other: TrainedRun, url: str, body: BodyFactory | None
) -> TrainedModel:
    """The other run, to be scored step by step on the rows of the first one's.

    Raises:
        UserError: it judges other labels, or the log lacks what it reads.
    """
    ours, theirs = config.data.labels, other.config.data.labels
    if not judge_alike(ours, theirs):
        raise UserError(
            f"--against {other.url} has the labels {_described(theirs)}, and {run.url} has "
            f"{_described(ours)}; compare runs with the same tasks, in the same order"
        )
    same = (
        f"data.lanes={config.data.lanes}",
        f"data.on_error={config.data.on_error}",
        f"training.global_batch_size={config.training.global_batch_size}",
    )
    moved = other.config.model_copy(update={"cluster": config.cluster, "run": config.run})
    theirs_here = overridden(moved, same)
    # Which refuses a log that lacks one of its features.
    refuse_other_ids(other, read_manifest(url, theirs_here.data))
    return TrainedModel(theirs_here, other.source, body)


def _described(labels: Mapping[str, Label]) -> str:
    said = (
        (t, label.model_dump(mode="json", exclude_defaults=True)) for t, label in labels.items()
    )
    return ", ".join(f"{task}: {settings}" for task, settings in said)


def show_evaluation(found: Mapping[str, Any]) -> None:
    """Print the tables, what is worth a second look, and the gate's verdict."""
    run, other = found["run"], found.get("against")
    rows = f"{found['rows']:,} rows of {found['data']}"
    console.print(_table_of_tasks(f"{_title(run)}, {rows}", found["tasks"]))
    for note in _notes(found["tasks"]):
        log_event("note", note)
    for column, slices in found.get("slices", {}).items():
        console.print(_table_of_slices(column, slices))
    if other is not None:
        console.print(_table_of_tasks(f"against {_title(other)}", other["tasks"]))
        console.print(_table_of_drops(found["gate"]))
        log_event("gate", f"gate: {found['gate']['summary']}", gate=found["gate"])


def _title(run: Mapping[str, Any]) -> str:
    return f"{run['url']} at step {run['step']:,} ({run['checkpoint']})"


def _table_of_tasks(title: str, tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    grouped = any("gauc" in numbers for numbers in tasks.values())
    table = Table(title=title)
    names = ["task", "AUC", *(["GAUC"] if grouped else []), "log-loss", "calibration"]
    for name in (*names, "positives", "rows"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, numbers in tasks.items():
        shown = ["auc", *(["gauc"] if grouped else []), "log_loss", "calibration"]
        table.add_row(
            task,
            *(number_or_dash(numbers[name]) for name in shown),
            f"{numbers['positives']:,}",
            f"{numbers['rows']:,}",
        )
    return table


def _table_of_slices(column: str, slices: Mapping[str, Any]) -> Table:
    """The values with the most rows, a line per task of each."""
    more = len(slices) - _SLICES_SHOWN
    note = f"; {more:,} values with fewer rows are in --json FILE" if more > 0 else ""
    table = Table(title=f"by {column}{note}")
    names = ("task", "AUC", "log-loss", "calibration", "positives", "rows")
    for name in (column, *names):
        table.add_column(name, justify="left" if name in (column, "task") else "right")
    for value in list(slices)[:_SLICES_SHOWN]:
        for place, (task, numbers) in enumerate(slices[value].items()):
            table.add_row(
                "" if place else value,
                task,
                *(number_or_dash(numbers[name]) for name in ("auc", "log_loss", "calibration")),
                f"{numbers['positives']:,}",
                f"{numbers['rows']:,}",
            )
        table.add_section()
    return table


def _table_of_drops(gate: Mapping[str, Any]) -> Table:
    """How much lower each task's AUC is, and how sure that is."""
    table = Table(title=f"drop in AUC, at most {gate['max_auc_drop']:g}")
    for name in ("task", "drop", "95 % interval", "verdict"):
        table.add_column(name, justify="left" if name in ("task", "verdict") else "right")
    for task, drop in gate["tasks"].items():
        ends = (f"{number_or_dash(drop['lower'])} to {number_or_dash(drop['upper'])}",)
        table.add_row(task, number_or_dash(drop["drop"]), *ends, drop["verdict"])
    return table


def _notes(tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for task, numbers in tasks.items():
        if numbers["auc"] is None:
            known = f"{numbers['positives']} of {numbers['rows']} known labels are positive"
            yield f"{task}: no AUC here, where {known}; it needs both kinds"
        if numbers["not_finite"]:
            yield (
                f"{task}: {numbers['not_finite']:,} predictions are not finite and stand in no "
                "number above"
            )
        groups = numbers.get("groups")
        if groups is not None:
            yield (
                f"{task}: GAUC over {groups['groups']:,} groups; {groups['groups_of_one_class']:,} "
                f"groups of one class, {groups['rows_of_one_class']:,} rows, are left out"
            )
