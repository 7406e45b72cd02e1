"""A log, judged by a trained model, or by two on the same rows.

B rows of this worker's batch, K key columns, T tasks.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.ids import hashes_of_integers
from recsys_mtl.data.plan import Plan
from recsys_mtl.distributed.collectives import all_reduce_sum
from recsys_mtl.metrics.group_auc import group_auc_sums, summarise_group_auc
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


def evaluate_log(host: ScoringHost, job: EvaluationJob) -> dict[str, Any]:
    """Every number that the job asks for, the same on every worker."""
    with tempfile.TemporaryDirectory(prefix="recsys_mtl_") as folder:
        judged = _judge(host, job, job.model, Path(folder) / "model")
        found: dict[str, Any] = {"tasks": judged.evaluation}
        if job.group_by is not None:
            sums = all_reduce_sum(group_auc_sums(judged.spills.by_name[job.group_by]))
            for task, group_auc in zip(judged.evaluation, summarise_group_auc(sums), strict=True):
                found["tasks"][task] |= {"groups": asdict(group_auc), "gauc": group_auc.gauc}
        return found


class _Judged(NamedTuple):
    """What one model makes of the log."""

    evaluation: Evaluation
    spills: ScoredRowsByKey


def _judge(host: ScoringHost, job: EvaluationJob, trained: TrainedModel, folder: Path) -> _Judged:
    """Score the log with one model, which is gone afterwards."""
    model = load_model(trained, host.context)
    names = spill_names(job)
    columns = tuple(name for name in names if name != _ROWS)
    plan, sums = evaluation_plan(model, job.log), EvaluationSums(model)
    spills = ScoredRowsByKey(folder, names, len(model.config.task_names), host.context)
    for batch, logits in scored_batches(model, job.log, plan, columns):
        sums.add(batch, logits)
        keys = batch.keys
        if _ROWS in names:
            keys = np.concatenate([_row_keys(batch, plan, host)[:, None], keys], axis=1)
        spills.add(batch, keys, logits)
        host.advance(batch.rows)
    return _Judged(sums.evaluation(), spills)


def spill_names(job: EvaluationJob) -> tuple[str, ...]:
    """The K spills that the job needs: single rows first, if at all, then columns."""
    groups = [job.group_by] if job.group_by is not None else []
    rows = [_ROWS] if job.max_auc_drop is not None and not groups else []
    return tuple(dict.fromkeys([*rows, *groups, *job.slices]))


def _row_keys(batch: ClickBatch, plan: Plan, host: ScoringHost) -> NDArray[np.uint64]:
    """[B] A key of its own for every row, whichever worker scores it."""
    lanes = plan.lanes_of_worker(host.context.rank, host.context.world_size)
    return hashes_of_integers(plan.row_numbers(batch.step, lanes))
