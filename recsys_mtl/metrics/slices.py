"""What a whole log is measured by, for each value of one column."""

# n rows, S slices, T tasks

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_mtl.metrics import scored_rows
from recsys_mtl.metrics.group_auc import auc_by_group
from recsys_mtl.metrics.placements import LogitBins, coarse_counts, comparable, placements
from recsys_mtl.metrics.scored_rows import ScoredBlock, ScoredRows, refuse_groups

MOST_SLICES = 1_000


@dataclass(frozen=True)
class SliceOfTask:
    """One task on the rows of one slice, as on a whole log."""

    auc: float
    """NaN for a slice of one class."""
    log_loss: float
    """Nats per row, or per weight where rows have weights; NaN without rows."""
    calibration: float
    """Mean prediction over base rate; NaN without positives."""
    positives: int
    rows: int
    """Labelled rows with a finite logit."""
    not_finite: int
    """Labelled rows left out, since their logit is NaN or infinite."""


def slice_metrics(rows: ScoredRows) -> dict[int, list[SliceOfTask]]:
    """Measures each slice.

    AUC is exact, equal scores counting half, where the slices of a partition have 4 million rows or
    fewer. Beyond, bins of about 1/65,536 of a slice's rows are compared (`LogitBins`).

    Args:
        rows: of one model, with the hash of the column's value as their key.

    Returns:
        Per key, its T tasks. Workers that hold different keys put theirs together by
        `merged_slices`.

    Raises:
        UserError: a file is not readable, or there are more than 1,000 keys.
    """
    tables: list[dict[int, list[SliceOfTask]]] = []
    for partition in range(scored_rows.PARTITIONS):
        num_rows = rows.rows_of_partition(partition)
        if 0 < num_rows <= scored_rows.BLOCK_ROWS:
            (block,) = rows.pieces_of_partition(partition)
            tables.append(_in_memory(block))
        elif num_rows:
            tables.append(_streamed(rows, partition))
    return merged_slices(tables)


def merged_slices(
    tables: Iterable[dict[int, list[SliceOfTask]]],
) -> dict[int, list[SliceOfTask]]:
    """Puts tables of different keys together.

    Raises:
        UserError: there are more than 1,000 keys.
    """
    merged: dict[int, list[SliceOfTask]] = {}
    for table in tables:
        assert not merged.keys() & table.keys(), "a slice is cut over two tables"
        merged |= table
        refuse_groups(len(merged), MOST_SLICES)
    return merged


def _in_memory(block: ScoredBlock) -> dict[int, list[SliceOfTask]]:
    keys, slices = np.unique(block.keys, return_inverse=True)
    refuse_groups(len(keys), MOST_SLICES)
    columns = []
    for task in range(block.labels.shape[1]):
        kept = comparable(block)[:, task]
        auc = np.full(len(keys), np.nan)
        if kept.any():
            by_slice = auc_by_group(
                slices[kept],
                block.logits[kept, 0, task],
                block.labels[kept, task],
                block.weights[kept, task],
            )
            auc[by_slice.groups] = by_slice.auc
        columns.append(_results(_sums(block, slices, len(keys), task), auc))
    return {int(key): list(tasks) for key, *tasks in zip(keys, *columns, strict=True)}


def _streamed(rows: ScoredRows, partition: int) -> dict[int, list[SliceOfTask]]:
    """The slices of a partition that is too large to be sorted, one after the other."""
    unique = (np.unique(block.keys) for block in rows.pieces_of_partition(partition))
    keys = np.unique(np.concatenate(list(unique)))
    refuse_groups(len(keys), MOST_SLICES)
    return {int(key): _streamed_slice(rows, partition, key) for key in keys}


def _streamed_slice(rows: ScoredRows, partition: int, key: np.uint64) -> list[SliceOfTask]:
    def blocks() -> Iterator[ScoredBlock]:
        for block in rows.pieces_of_partition(partition):
            of_slice = block.keys == key
            yield ScoredBlock(*(column[of_slice] for column in block))

    bins = LogitBins(coarse_counts(blocks(), 1, rows.num_tasks))
    class_weights = bins.class_weights(blocks())
    positive = class_weights[0, :, 1].numpy()
    right = np.nan_to_num(placements(class_weights)[0, :, 1])
    negatives = class_weights[0, :, 0].numpy().sum(axis=-1)
    with np.errstate(invalid="ignore"):
        auc = (right * positive).sum(axis=-1) / positive.sum(axis=-1)
    auc[negatives == 0] = np.nan
    sums = np.zeros((rows.num_tasks, 1, 7))
    for block in blocks():
        alone = np.zeros(len(block.keys), np.intp)
        for task in range(rows.num_tasks):
            sums[task] += _sums(block, alone, 1, task)
    return [_results(sums[task], auc[task : task + 1])[0] for task in range(rows.num_tasks)]


def _sums(
    block: ScoredBlock, slices: NDArray[np.intp], num_slices: int, task: int
) -> NDArray[np.float64]:
    """[S, 7] Loss, prediction, positive and whole weight; positives, rows, rows not finite."""
    kept = comparable(block)[:, task]
    weight = np.where(kept, block.weights[:, task], 0).astype(np.float64)
    logit = np.where(kept, block.logits[:, 0, task], 0).astype(np.float64)
    label = block.labels[:, task]
    # log(1 + exp(logit)) without overflow, less the logit of a positive.
    softplus = np.logaddexp(0.0, logit)
    columns: Sequence[NDArray[np.generic]] = (
        weight * (softplus - label * logit),
        weight * np.exp(logit - softplus),
        weight * label,
        weight,
        kept & label,
        kept,
        (block.weights[:, task] > 0) & ~kept,
    )
    return np.stack([np.bincount(slices, column, num_slices) for column in columns], axis=1)


def _results(sums: NDArray[np.float64], auc: NDArray[np.float64]) -> list[SliceOfTask]:
    """[S] From the sums [S, 7] and the AUC [S] of one task."""
    loss, prediction, positive, weight, positives, rows, not_finite = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        log_loss, calibration = loss / weight, prediction / np.where(positive > 0, positive, np.nan)
    return [
        SliceOfTask(
            auc=float(auc[place]),
            log_loss=float(log_loss[place]),
            calibration=float(calibration[place]),
            positives=int(positives[place]),
            rows=int(rows[place]),
            not_finite=int(not_finite[place]),
        )
        for place in range(len(auc))
    ]
