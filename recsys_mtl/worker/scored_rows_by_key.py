"""Scored rows of all workers, brought together by their keys, so that a worker has whole groups.

B rows of this worker's batch, K key columns, T tasks, W workers.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.distributed.collectives import gathered_rows
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.metrics.scored_rows import ScoredRows


class ScoredRowsByKey:
    """One spill per key column: each worker keeps the rows whose keys are its share."""

    def __init__(
        self,
        folder: Path,
        most_groups: dict[str, int | None],
        num_tasks: int,
        context: WorkerContext,
    ) -> None:
        """Make room in `folder`.

        Args:
            most_groups: name of each of the K spills to the groups that it may have on a worker;
                any number when None.
        """
        self._context = context
        self._spills = [
            ScoredRows(folder / str(place), num_tasks, most_groups=most)
            for place, most in enumerate(most_groups.values())
        ]
        self.by_name = dict(zip(most_groups, self._spills, strict=True))
        """Name to the spill of this worker's share."""

    def add(self, batch: ClickBatch, keys: NDArray[np.uint64], logits: Tensor) -> None:
        """Add a batch; every worker calls it at the same step.

        Args:
            keys: [B, K]
            logits: [B, T]
        """
        if not self._spills:
            return
        num_tasks = logits.shape[1]
        own = torch.cat(
            [
                torch.from_numpy(keys.view(np.int32)),
                logits.cpu().view(torch.int32),
                batch.labels.cpu().view(torch.int32),
                _weights(batch).cpu().view(torch.int32),
            ],
            dim=1,
        )
        rows = gathered_rows(own, self._context.device).numpy()  # [W B, 2 K + 3 T]
        numbers = rows[:, keys.shape[1] * 2 :].view(np.float32)
        scores, labels, weights = (
            numbers[:, place * num_tasks : (place + 1) * num_tasks] for place in range(3)
        )
        labelled = weights.any(axis=1)
        for place, spill in enumerate(self._spills):
            key = np.ascontiguousarray(rows[:, 2 * place : 2 * place + 2]).view(np.uint64)[:, 0]
            kept = labelled & (key % np.uint64(self._context.world_size) == self._context.rank)
            spill.append(key[kept], scores[kept][:, None], labels[kept], weights[kept])


def _weights(batch: ClickBatch) -> Tensor:
    """[B, T] float32: how much each row counts for each task, 0 where it has no label."""
    return batch.label_mask.float() if batch.label_weights is None else batch.label_weights
