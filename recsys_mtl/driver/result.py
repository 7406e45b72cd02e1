"""What a run has come to: result.json, and what a person sees of it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from recsys_mtl.config import RunConfig
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.driver.committed import CommittedCheckpoint
from recsys_mtl.driver.events import console, is_json, log_event
from recsys_mtl.driver.progress import number_or_dash
from recsys_mtl.gradients.methods.contract import Method
from recsys_mtl.metrics.columns import TABLE_PREFIX


def result_of(
    config: RunConfig,
    metrics: Mapping[str, Any],
    wall_seconds: float,
    *,
    best_checkpoint: CommittedCheckpoint | None,
    train: Manifest,
    evaluation: Manifest,
    method: Method,
    method_settings: Mapping[str, Any],
) -> dict[str, Any]:
    """result.json, with null for what cannot be known.

    Args:
        metrics: of the last checkpoint, which is the run's end.
        train: the rows that it was trained on.
        evaluation: the rows that the tasks' numbers are of.
        best_checkpoint: the one with the best score; None where none has a score.
        method: the one that trained.
        method_settings: its kind and its hyperparameters.
    """
    totals, steps = metrics["totals"], metrics["step"]
    tasks = {
        task: {
            "auc": _known(numbers["auc"]),
            "log_loss": _known(numbers["log_loss"]),
            "calibration": _known(numbers["calibration"]),
            "positives": numbers["positives"],
            "rows": numbers["rows"],
            "not_finite": numbers["not_finite"],
            **_sum_of_weights(config, task, numbers),
            # Over the steps in which the task had a gradient, and how many these were.
            "mean_weight": _mean(totals["weight_sums"][task], totals["labelled_steps"][task]),
            "labelled_steps": totals["labelled_steps"][task],
        }
        for task, numbers in metrics["evaluation"].items()
    }
    compares = method.compares_gradients or config.recon is not None
    flags = totals["method_flag_steps"]
    return {
        "run": config.run.name,
        "finished": True,
        "world_size": config.cluster.world_size,
        "epochs": metrics["epochs"],
        "steps": steps,
        "rows": totals["rows"],
        "rows_per_second": totals["rows"] / totals["seconds"],
        "wall_seconds": wall_seconds,
        "method": dict(method_settings),
        "data": {"train": _log_of(train), "eval": _log_of(evaluation)},
        "tasks": tasks,
        # Of training.best_by: the best evaluation and its checkpoint. `tasks` are of the last step.
        "best": _best(metrics["best"], best_checkpoint),
        "stopped_early": metrics["stopped_early"],
        # Steps that compared the tasks' gradients, and those of them that saw a conflict; a method
        # that never compares them knows of none, unless the run counts conflicts.
        "compared_steps": totals["compared_steps"] if compares else None,
        "conflicting_steps": totals["conflicting_steps"] if compares else None,
        # Steps in which a flag among the method's diagnostics was true.
        **{f"{flag}_steps": count for flag, count in flags.items()},
        # Of the steps that compared cheaper coefficients with every task's gradient.
        "audited_steps": totals["audited_steps"],
        "opposing_steps": totals["opposing_steps"],
        # Pairs of tasks that conflicted in each layer and table; null without the section recon.
        "recon": _recon(config, totals),
        "skipped_steps": totals["skipped_steps"],
        "rejected_rows": sum(totals["rejected_rows"].values()),
        "rejected_rows_by_reason": totals["rejected_rows"],
        "nulls": {column: count for column, count in totals["nulls"].items() if count},
        # Rows with a value that the vocabulary of a one_hot feature lacks.
        "outside_vocabulary": {f: n for f, n in totals["outside_vocabulary"].items() if n},
        "parameters": metrics["parameters"],
        # Handed to collective operations by all workers together.
        "bytes_sent_per_step": {k: count / steps for k, count in totals["bytes_sent"].items()},
        "sharding": metrics["sharding"],
        "warm_start": metrics["warm_start"],
    }


def _sum_of_weights(config: RunConfig, task: str, numbers: Mapping[str, float]) -> dict[str, float]:
    """What the rows of data.eval count together, for a task that weighs them."""
    is_weighted = config.data.labels[task].sample_weight is not None
    return {"weight": numbers["weight"]} if is_weighted else {}


def _recon(config: RunConfig, totals: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the run has counted of its tasks' conflicts, layers before tables."""
    if config.recon is None:
        return None
    num_tasks = len(config.task_names)
    return {
        "threshold": config.recon.threshold,
        "search_steps": totals["search_steps"],
        "pairs_per_step": num_tasks * (num_tasks - 1) // 2,
        **_layers_and_tables(totals["conflicting_pairs"]),
        # Over all those steps, the pairs of which both tasks had a gradient, and could conflict.
        "compared_pairs": _layers_and_tables(totals["compared_pairs"]),
    }


def _layers_and_tables(pairs: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Pairs by layer, and pairs by the feature that owns a table."""
    return {
        "layers": {name: n for name, n in pairs.items() if not name.startswith(TABLE_PREFIX)},
        "tables": {
            name.removeprefix(TABLE_PREFIX): n
            for name, n in pairs.items()
            if name.startswith(TABLE_PREFIX)
        },
    }


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None


def _log_of(manifest: Manifest) -> dict[str, Any]:
    """Which rows a number of the result is of, wherever they are moved later."""
    return {"url": manifest.url, "rows": manifest.rows, "digest": manifest.digest}


def _best(
    best: Mapping[str, Any] | None, checkpoint: CommittedCheckpoint | None
) -> dict[str, Any] | None:
    if best is None:
        return None
    tasks = {
        task: {name: _known(value) for name, value in numbers.items()}
        for task, numbers in best["tasks"].items()
    }
    name = None if checkpoint is None else checkpoint.name
    return {**best, "checkpoint": name, "tasks": tasks}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def show_result(result: Mapping[str, Any], run_url: str) -> None:
    """A table of the tasks, what is worth a second look, and where everything is."""
    sentence = f"run {result['run']}: {result['rows']:,} rows in {result['steps']:,} steps"
    if is_json():
        log_event("result", sentence, url=run_url, result=dict(result))
    else:
        console.print(_table(sentence, result["tasks"]))
    for note in _notes(result):
        log_event("note", note)
    if not is_json():
        for text, name in (
            ("result", "result.json"),
            ("traces", "traces.png"),
            ("trace", "trace/"),
            ("configuration", "config.yaml"),
            ("checkpoints", ""),
        ):
            console.print(f"{text + ':':15}{run_url}/{name}")


def _table(title: str, tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title=title)
    for column in ("task", "AUC", "log-loss", "mean w", "positives", "rows"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, numbers in tasks.items():
        table.add_row(
            task,
            number_or_dash(numbers["auc"]),
            number_or_dash(numbers["log_loss"]),
            number_or_dash(numbers["mean_weight"]),
            f"{numbers['positives']:,}",
            f"{numbers['rows']:,}",
        )
    return table


def _notes(result: Mapping[str, Any]) -> Iterator[str]:
    for task, numbers in result["tasks"].items():
        if numbers["auc"] is None:
            known = f"{numbers['positives']} of {numbers['rows']} known labels are positive"
            yield f"{task}: no AUC on data.eval, where {known}; it needs both kinds"
        if numbers["not_finite"]:
            yield (
                f"{task}: {numbers['not_finite']:,} predictions on data.eval are not finite and "
                "stand in no number above"
            )
    yield from _notes_on_best(result["steps"], result.get("best"), result.get("stopped_early"))
    if result["skipped_steps"]:
        yield f"{result['skipped_steps']:,} steps were skipped, their gradients not being finite"
    if result["rejected_rows"]:
        yield f"{result['rejected_rows']:,} rows were left out as unusable"
    outside = result.get("outside_vocabulary")  # earlier versions did not count
    if outside:
        shares = [f"{name} in {n / result['rows']:.2%}" for name, n in outside.items()]
        yield f"values that a vocabulary lacks, of the rows trained: {', '.join(shares)}"


def _notes_on_best(
    steps: int, best: Mapping[str, Any] | None, stopped_early: bool | None
) -> Iterator[str]:
    if best is None:  # as in the results of earlier versions
        return
    if stopped_early:
        yield (
            f"stopped early, after {best['evaluations_since']} evaluations that were not better "
            "than the best"
        )
    if best["step"] is None:
        yield f"no evaluation has a {best['by']}, so none is the best"
    elif best["step"] < steps:
        yield (
            f"best {best['by']}: {best['value']:.4f} at step {best['step']:,}, in "
            f"{best['checkpoint']}; the numbers above are of step {steps:,}"
        )
    if best["step"] is not None and best["evaluations_without_score"]:
        yield f"{best['evaluations_without_score']} evaluations had no {best['by']}"
