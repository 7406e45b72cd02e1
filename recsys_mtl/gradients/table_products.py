"""Products of the tasks' gradients of embedding tables, without a gradient as large as a table.

A table's gradient for one task has a row for every id of the batch: the sum of what arrives at the
bags that hold the id. Ids are grouped by sorting into buffers whose size depends on the number of
ids alone, so that nothing waits for the device.
"""

# T tasks, N ids of a batch, G bags (one per row and feature), D embedding dimension, K tables

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.gradients import cpu_loops
from recsys_mtl.gradients.gram import gram_matrix


@dataclass(frozen=True, eq=False)
class TableGradients:
    """The tasks' gradients of the table rows that a batch touches."""

    sums: Tensor
    """[T, N, D] float64: a place for each touched row; 0 where a place is unused. It lies in the
    workspace that was given: the next gradients overwrite it."""
    places: Tensor
    """[N] The place of each id's row."""

    def products(self) -> Tensor:
        """[T, T] float64: the tables' part of the Gram."""
        return gram_matrix(self.sums.flatten(start_dim=1))

    def products_by_table(self, tables: Tensor, num_tables: int) -> Tensor:
        """The products of each table apart; they add up to `products`.

        Args:
            tables: [N] the number of the table that each id belongs to, from 0.
            num_tables: K, more than each of these numbers.

        Returns:
            [K, T, T] float64.
        """
        table_of_place = torch.zeros_like(tables).scatter_(0, self.places, tables)
        loops = self.sums.device.type == "cpu"
        upper_of = cpu_loops.gram_upper_by_table if loops else gram_upper_by_table
        upper = upper_of(self.sums, table_of_place, num_tables)
        return upper + upper.triu(1).mT


def gram_upper_by_table(row_gradients: Tensor, tables: Tensor, num_tables: int) -> Tensor:
    """What `cpu_loops.gram_upper_by_table` computes, in torch operations: on a CPU they take nine
    times as long, for each pair of tasks by itself reads all rows."""
    num_tasks = len(row_gradients)
    upper = row_gradients.new_zeros(num_tables, num_tasks, num_tasks)
    for task, rows in enumerate(row_gradients):
        for other in range(task, num_tasks):
            by_row = torch.linalg.vecdot(rows, row_gradients[other])  # [N]
            upper[:, task, other].index_add_(0, tables, by_row)
    return upper


def table_gradients(
    bag_gradients: Sequence[Tensor], rows: Tensor, bags: Tensor, workspace: Tensor
) -> TableGradients:
    """Sum each task's bag gradients over the bags that hold the same table row.

    Ids [7, 3, 7] in bags [0, 1, 2], whose gradients are [[1.0], [2.0], [4.0]], give row 7 the
    gradient 1 + 4 and row 3 the gradient 2.

    Sums are float64: a row that half of a large batch shares would lose 1e-5 of its gradient in
    float32, and the Gram with it.

    Args:
        bag_gradients: one [G, D] per task: of the loss for each bag's sum of embeddings.
        rows: [N] the table row of each id; rows of different tables must have different numbers.
        bags: [N] the bag that holds it.
        workspace: at least `workspace_numbers` float64 numbers. Memory that is fresh at every step
            has to be paged in, for as long as the sums take.
    """
    group = _groups(rows)
    num_tasks, num_ids, dim = len(bag_gradients), len(rows), bag_gradients[0].shape[1]
    used = workspace[: workspace_numbers(num_tasks, num_ids, dim)]
    pieces = used.view(num_tasks + 1, num_ids, dim)
    summands, sums = pieces[0], pieces[1:].zero_()
    for place, gradient in zip(sums, bag_gradients, strict=True):
        place.index_add_(0, group, summands.copy_(gradient.index_select(0, bags)))
    return TableGradients(sums, group)


def workspace_numbers(num_tasks: int, num_ids: int, dim: int) -> int:
    """How many numbers the sums of every task need, with one task's summands."""
    return (num_tasks + 1) * num_ids * dim


def _groups(rows: Tensor) -> Tensor:
    """[N] A number from 0 for each id, the same for equal rows and only for those."""
    ordered, order = rows.sort()
    begins = torch.ones_like(ordered)
    begins[1:] = ordered[1:] != ordered[:-1]
    return torch.empty_like(order).scatter_(0, order, begins.cumsum(0) - 1)
