"""Products of table gradients are those of the whole tables, whatever the ids look like."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_mtl.gradients import cpu_loops
from recsys_mtl.gradients.table_products import (
    TableGradients,
    gram_upper_by_table,
    table_gradients,
    workspace_numbers,
)


def found_of(bag_gradients: list[Tensor], rows: Tensor, bags: Tensor) -> TableGradients:
    """In a workspace that holds what an earlier step left."""
    needed = workspace_numbers(len(bag_gradients), len(rows), bag_gradients[0].shape[1])
    workspace = torch.full((needed + 3,), torch.nan, dtype=torch.float64, device=rows.device)
    return table_gradients(bag_gradients, rows, bags, workspace)


def whole_table_gradients(
    bag_gradients: list[Tensor], rows: Tensor, bags: Tensor, num_rows: int
) -> Tensor:
    """[T, rows, D] as a table of parameters would get them, id by id."""
    found = torch.zeros(len(bag_gradients), num_rows, bag_gradients[0].shape[1]).double()
    for task, gradient in enumerate(bag_gradients):
        for row, bag in zip(rows.tolist(), bags.tolist(), strict=True):
            found[task, row] += gradient[bag].double()
    return found


def test_hand_checked_rows() -> None:
    found = found_of(
        [torch.tensor([[1.0], [2.0], [4.0]])], torch.tensor([7, 3, 7]), torch.tensor([0, 1, 2])
    )
    assert sorted(found.sums[0, :, 0].tolist()) == [0.0, 2.0, 5.0]
    assert found.products().tolist() == [[29.0]]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_products_equal_those_of_whole_tables(data: st.DataObject) -> None:
    num_tasks = data.draw(st.integers(1, 5))
    num_rows, num_bags = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    num_ids = data.draw(st.integers(0, 30))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    rows = torch.randint(num_rows, (num_ids,), generator=generator)
    bags = torch.randint(num_bags, (num_ids,), generator=generator).sort().values
    gradients = [torch.randn(num_bags, 4, generator=generator) for _ in range(num_tasks)]
    whole = whole_table_gradients(gradients, rows, bags, num_rows).flatten(1)
    found = found_of(gradients, rows, bags)
    torch.testing.assert_close(found.products(), whole @ whole.T, rtol=1e-13, atol=1e-13)
    assert torch.equal(found.products(), found.products().T)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_products_of_each_table_are_those_of_its_rows_alone(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    # Two shards may be of one table, and a table may have no shard here.
    table_of_shard = [data.draw(st.integers(0, 4)) for _ in sizes]
    table_of_row = torch.tensor(table_of_shard).repeat_interleave(torch.tensor(sizes))
    num_tasks, num_ids = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 30))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    rows = torch.randint(sum(sizes), (num_ids,), generator=generator)
    bags = torch.randint(7, (num_ids,), generator=generator).sort().values
    gradients = [torch.randn(7, 4, generator=generator) for _ in range(num_tasks)]
    found = found_of(gradients, rows, bags)
    by_table = found.products_by_table(table_of_row[rows], 5)
    whole = whole_table_gradients(gradients, rows, bags, sum(sizes))
    for table in range(5):
        own = whole[:, table_of_row == table].flatten(1)
        torch.testing.assert_close(by_table[table], own @ own.T, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(by_table.sum(dim=0), found.products(), rtol=1e-13, atol=1e-13)
    assert torch.equal(by_table, by_table.mT)
    # Another device has no compiled loops.
    of_place = torch.zeros_like(rows).scatter_(0, found.places, table_of_row[rows])
    expected = gram_upper_by_table(found.sums, of_place, 5)
    torch.testing.assert_close(by_table.triu(), expected, rtol=1e-13, atol=1e-13)


def test_products_by_table_of_a_hand_checked_example() -> None:
    rows, tables = torch.tensor([[[1.0, 0.0], [2.0, 2.0]]]).double(), torch.tensor([1, 0])
    for upper_of in (cpu_loops.gram_upper_by_table, gram_upper_by_table):
        assert upper_of(rows, tables, 2).tolist() == [[[8.0]], [[1.0]]]


def test_a_row_that_all_bags_share_loses_nothing_to_rounding() -> None:
    print("seed", torch.seed())
    gradient = torch.rand(200_000, 4)
    everywhere = torch.zeros(len(gradient), dtype=torch.long)
    found = found_of([gradient], everywhere, torch.arange(len(gradient)))
    exact = gradient.double().sum(dim=0)
    torch.testing.assert_close(found.products()[0, 0], exact @ exact, rtol=1e-12, atol=0)


@pytest.mark.parametrize("num_ids", [0, 5])
def test_sizes_depend_on_the_number_of_ids_alone(num_ids: int) -> None:
    # A meta tensor has no values: a size that depended on one could not be known.
    rows = torch.empty(num_ids, dtype=torch.long, device="meta")
    gradients = [torch.empty(3, 4, device="meta")] * 2
    found = found_of(gradients, rows, rows)
    assert found.sums.shape == (2, num_ids, 4)
    assert found.products().shape == (2, 2)
    assert found.products_by_table(rows, 3).shape == (3, 2, 2)
