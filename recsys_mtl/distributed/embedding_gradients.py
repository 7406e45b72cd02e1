"""The tasks' gradients of the embedding tables, where their shards lie.

The owner of a shard holds the ids of the whole global batch for it, so what it computes from them
and from the gradients of its own output is exact, and shards of different owners are disjoint:
their products add up to those of the whole tables.

B rows of the global batch, F features that look up this worker's shards, D columns of the widest;
N ids of the batch for them, K tables, T tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor

from recsys_mtl.gradients.table_products import TableGradients, table_gradients, workspace_numbers


@dataclass(frozen=True)
class OwnedFeature:
    """One feature's lookup in one shard."""

    first_row: int
    """Number of the shard's first row among the rows of all this owner's shards."""
    columns: int
    """How many the shard has."""
    table: int
    """Number of the table that the shard is a part of, among those of all workers."""


class OwnedShards:
    """The shards behind one output [B, sum of columns] of a lookup: one block a feature, in order.

    Features that share a shard share `first_row`.
    """

    def __init__(self, features: Sequence[OwnedFeature], device: torch.device) -> None:
        self._first_rows = torch.tensor([f.first_row for f in features]).to(device)
        self._tables = torch.tensor([f.table for f in features]).to(device)
        self._workspace = torch.empty(0, dtype=torch.float64, device=device)
        self._widest = max(f.columns for f in features)
        self._alike = all(f.columns == self._widest for f in features)
        places, start = [], 0
        padding = sum(f.columns for f in features)  # the place of a column of zeros
        for feature in features:
            own = range(start, start + feature.columns)
            places += [*own, *[padding] * (self._widest - feature.columns)]
            start += feature.columns
        self._places = torch.tensor(places).to(device)

    def gradients(
        self, ids: KeyedJaggedTensor, output_gradients: Sequence[Tensor]
    ) -> TableGradients:
        """Every task's gradient of the rows that `ids` touch.

        Args:
            ids: what the lookup was given: a bag for each feature and row of the global batch.
            output_gradients: one [B, sum of columns] per task.
        """
        rows, features = ids.values(), len(self._first_rows)
        feature, batch_row = self._feature_and_batch_row(ids)
        needed = workspace_numbers(len(output_gradients), len(rows), self._widest)
        if len(self._workspace) < needed:
            self._workspace = self._workspace.new_empty(needed)
        return table_gradients(
            [self._blocks(gradient) for gradient in output_gradients],
            rows + self._first_rows[feature],
            batch_row * features + feature,
            self._workspace,
        )

    def products_by_table(
        self, ids: KeyedJaggedTensor, output_gradients: Sequence[Tensor], num_tables: int
    ) -> Tensor:
        """[K, T, T] float64: products of the tasks' gradients, the shards of each table together.

        Args:
            ids, output_gradients: as `gradients` takes them.
            num_tables: K, of all workers' tables; those that have no shard here have zeros.
        """
        feature, _ = self._feature_and_batch_row(ids)
        touched = self.gradients(ids, output_gradients)
        return touched.products_by_table(self._tables[feature], num_tables)

    def _feature_and_batch_row(self, ids: KeyedJaggedTensor) -> tuple[Tensor, Tensor]:
        """[N] The feature of each id, and [N] the row of the global batch that holds it."""
        lengths = ids.lengths()
        batch = len(lengths) // len(self._first_rows)
        # Bags come feature by feature, the output's blocks row by row.
        bag = torch.arange(len(lengths), device=lengths.device)
        bag = bag.repeat_interleave(lengths, output_size=len(ids.values()))
        return bag // batch, bag % batch

    def _blocks(self, gradient: Tensor) -> Tensor:
        """[B F, D] a row for each block of the output, narrower ones padded with zeros."""
        if not self._alike:
            padded = torch.cat([gradient, gradient.new_zeros(len(gradient), 1)], dim=1)
            gradient = padded.index_select(1, self._places)
        return gradient.reshape(-1, self._widest)
