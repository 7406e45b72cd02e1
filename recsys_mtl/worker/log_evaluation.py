"""A log, judged by a trained model, or by two on the same rows.

B rows of this worker's batch, K key columns, T tasks.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.ids import hashes_of_integers
from recsys_mtl.data.key_names import names_of_keys
from recsys_mtl.data.plan import Plan
from recsys_mtl.distributed.collectives import all_reduce_sum, gathered, made_by_first
from recsys_mtl.metrics.bootstrap import drop_sums
from recsys_mtl.metrics.gate import judge
from recsys_mtl.metrics.group_auc import group_auc_sums, summarise_group_auc
from recsys_mtl.metrics.scored_rows import ScoredRows, pairs
from recsys_mtl.metrics.slices import MOST_SLICES, merged_slices, slice_metrics
from recsys_mtl.worker.evaluation import (
    Evaluation,
    EvaluationSums,
    evaluation_plan,
    scored_batches,
)
from recsys_mtl.worker.host import ScoringHost
from recsys_mtl.worker.job import EvaluationJob, TrainedModel
from recsys_mtl.worker.scored_rows_by_key import ScoredRowsByKey
from recsys_mtl.worker.trained_model import load_model

_ROWS = ""
"""The name of the spill whose groups are single rows; no column has it."""
_SEED = 0  # of the gate's draws: the same question has the same answer


def evaluate_log(host: ScoringHost, job: EvaluationJob) -> dict[str, Any]:
    """Every number that the job asks for, the same on every worker."""
    with tempfile.TemporaryDirectory(prefix="recsys_mtl_") as folder:
        judged = _score(host, job, job.model, Path(folder) / "model")
        found: dict[str, Any] = {"tasks": _with_groups(host, job, judged)}
        if job.slices:
            rows = {column: judged.rows_by_key[column] for column in job.slices}
            found["slices"] = {c: _slices(host, job, c, spill) for c, spill in rows.items()}
        if job.against is not None:
            other = _score(host, job, job.against, Path(folder) / "against")
            found["against"] = {"tasks": _with_groups(host, job, other)}
            found["gate"] = _gate(host, job, judged, other)
        return found


class _Scored(NamedTuple):
    """What one model makes of the log."""

    evaluation: Evaluation
    rows_by_key: dict[str, ScoredRows]
    """This worker's share of the rows, by the name of a spill."""


def _score(host: ScoringHost, job: EvaluationJob, trained: TrainedModel, folder: Path) -> _Scored:
    """Score the log with one model, which is gone afterwards."""
    model = load_model(trained, host.context)
    names = spill_names(job)
    columns = tuple(name for name in names if name != _ROWS)
    plan, sums = evaluation_plan(model, job.log), EvaluationSums(model)
    # Refused as soon as there are too many, not when all rows are scored.
    most = {name: MOST_SLICES if name in job.slices else None for name in names}
    spills = ScoredRowsByKey(folder, most, len(model.config.task_names), host.context)
    for batch, logits in scored_batches(model, job.log, plan, columns):
        sums.add(batch, logits)
        keys = batch.keys
        if _ROWS in names:
            keys = np.concatenate([_row_keys(batch, plan, host)[:, None], keys], axis=1)
        spills.add(batch, keys, logits)
        host.advance(batch.rows)
    return _Scored(sums.evaluation(), spills.by_name)


def spill_names(job: EvaluationJob) -> tuple[str, ...]:
    """The K spills that the job needs: single rows first, if at all, then columns."""
    groups = [job.group_by] if job.group_by is not None else []
    rows = [_ROWS] if job.against is not None and not groups else []
    return tuple(dict.fromkeys([*rows, *groups, *job.slices]))


def _row_keys(batch: ClickBatch, plan: Plan, host: ScoringHost) -> NDArray[np.uint64]:
    """[B] A key of its own for every row, whichever worker scores it."""
    lanes = plan.lanes_of_worker(host.context.rank, host.context.world_size)
    return hashes_of_integers(plan.row_numbers(batch.step, lanes))


def _with_groups(
    host: ScoringHost, job: EvaluationJob, scored: _Scored
) -> dict[str, dict[str, Any]]:
    """The evaluation, with GAUC where groups are asked for."""
    tasks: dict[str, dict[str, Any]] = {t: dict(found) for t, found in scored.evaluation.items()}
    if job.group_by is not None:
        sums = _summed(host, group_auc_sums(scored.rows_by_key[job.group_by]))
        for numbers, groups in zip(tasks.values(), summarise_group_auc(sums), strict=True):
            counts = asdict(groups)
            numbers |= {"gauc": counts.pop("gauc"), "groups": counts}
    return tasks


def _slices(
    host: ScoringHost, job: EvaluationJob, column: str, rows: ScoredRows
) -> dict[str, dict[str, Any]]:
    """Value of the column to task to its numbers, the value with the most rows first."""
    tasks = job.model.config.task_names
    slices = merged_slices(gathered(slice_metrics(rows)))
    names = made_by_first(
        host.context.rank,
        lambda: names_of_keys(job.log, job.model.config.data, column, slices.keys()),
    )
    order = sorted(slices, key=lambda key: (-max(s.rows for s in slices[key]), names[key]))
    return {
        names[key]: {task: asdict(s) for task, s in zip(tasks, slices[key], strict=True)}
        for key in order
    }


def _gate(host: ScoringHost, job: EvaluationJob, scored: _Scored, other: _Scored) -> dict[str, Any]:
    """Whether the model's AUC is lower than the other's by more than it may be."""
    assert job.max_auc_drop is not None, "a model is compared with another for the gate"
    name, tasks = job.group_by or _ROWS, job.model.config.task_names
    sums, counts = drop_sums(
        lambda: pairs(scored.rows_by_key[name], other.rows_by_key[name]),
        len(tasks),
        seed=_SEED,
        reduce=lambda sums: _summed(host, sums),
    )
    gate = judge(sums, counts, tasks, job.max_auc_drop)
    limit = {"max_auc_drop": job.max_auc_drop, "group_by": job.group_by}
    return limit | asdict(gate) | {"exit_status": gate.exit_status}


def _summed(host: ScoringHost, own: Tensor) -> Tensor:
    """A tensor of the CPU, summed over all workers, which talk to each other by their device."""
    return all_reduce_sum(own.to(host.context.device)).cpu()
