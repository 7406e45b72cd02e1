"""Every row once an epoch, whoever reads it: the plan over all small logs."""

from collections import Counter
from itertools import chain, product

import pytest

from recsys_mtl.data.plan import Plan, Window, last_step

SMALL_LOGS = [log for length in (1, 2, 3) for log in product((1, 2, 5), repeat=length)]
"""Row counts of up to three row groups."""

Row = tuple[int, int]
"""(row group, row in it)"""


def plan(
    row_counts: tuple[int, ...],
    *,
    lanes: int = 1,
    rows_per_lane: int = 1,
    window_row_groups: int = 2,
    seed: int | None = 5,
) -> Plan:
    return Plan(row_counts, lanes, lanes * rows_per_lane, window_row_groups, seed)


def rows_of(window: Window) -> list[Row]:
    rows = [(span.row_group, row) for span in window.spans for row in range(span.start, span.stop)]
    return [rows[place] for place in window.order()]


def lane_rows(plan: Plan, epoch: int, lane: int) -> list[Row]:
    """The rows of a lane in the order they are trained."""
    return list(chain.from_iterable(rows_of(window) for window in plan.windows(epoch, lane)))


def epoch_rows(plan: Plan, epoch: int) -> list[list[Row]]:
    return [lane_rows(plan, epoch, lane) for lane in range(plan.lanes)]


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
def test_each_row_is_in_exactly_one_lane_of_an_epoch(lanes: int, seed: int | None) -> None:
    for log, window, epoch in product(SMALL_LOGS, (1, 2, 3), (0, 1)):
        case = plan(log, lanes=lanes, window_row_groups=window, seed=seed)
        found = Counter(chain.from_iterable(epoch_rows(case, epoch)))
        expected = {(group, row): 1 for group, rows in enumerate(log) for row in range(rows)}
        assert found == expected, case


@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
def test_lanes_differ_by_at_most_one_row_and_fit_in_the_steps(lanes: int) -> None:
    for log, rows_per_lane in product(SMALL_LOGS, (1, 2, 3)):
        case = plan(log, lanes=lanes, rows_per_lane=rows_per_lane)
        lengths = [len(rows) for rows in epoch_rows(case, 0)]
        assert lengths == [case.lane_rows(lane) for lane in range(lanes)]
        assert max(lengths) - min(lengths) <= 1
        # The last step has rows, and no row is left for a step after it.
        assert (case.steps_per_epoch - 1) * rows_per_lane < max(lengths)
        assert max(lengths) <= case.steps_per_epoch * rows_per_lane


@pytest.mark.parametrize("lanes", [1, 2, 4, 6, 7, 8])
def test_any_number_of_workers_shares_out_all_lanes_and_as_few_padding_lanes_as_it_can(
    lanes: int,
) -> None:
    case = plan((9,), lanes=lanes)
    for world_size in range(1, lanes + 1):
        shares = [list(case.lanes_of_worker(rank, world_size)) for rank in range(world_size)]
        taken = sorted(chain.from_iterable(shares))
        assert taken == list(range(len(taken)))
        assert lanes <= len(taken) < lanes + world_size
        assert len({len(share) for share in shares}) == 1
        for lane in taken[lanes:]:
            assert case.lane_rows(lane) == 0
            assert case.windows(0, lane) == []


def test_windows_know_their_place_in_the_lane() -> None:
    for log, lanes, window in product(SMALL_LOGS, (1, 3, 4), (1, 2)):
        case = plan(log, lanes=lanes, window_row_groups=window)
        for lane in range(lanes):
            first = 0
            for found in case.windows(0, lane):
                assert found.first == first
                assert 0 < len(found.spans) <= window
                assert found.rows == len(rows_of(found)) > 0
                first += found.rows


def test_rows_leave_their_window_in_no_order() -> None:
    case = plan((10,) * 6, window_row_groups=2)
    for window in case.windows(0, 0):
        groups = {span.row_group for span in window.spans}
        assert {group for group, _ in rows_of(window)} == groups
    assert len({group for group, _ in lane_rows(case, 0, 0)[:20]}) == 2


def test_every_order_of_a_window_is_equally_likely() -> None:
    case = plan((3,))
    orders = Counter(tuple(lane_rows(case, epoch, 0)) for epoch in range(1200))
    assert len(orders) == 6
    # 200 expected of each, with a standard deviation of 13.
    assert all(140 < count < 260 for count in orders.values())


def test_the_order_depends_on_the_seed_and_the_epoch() -> None:
    log = (10,) * 20
    orders = {
        (seed, epoch): tuple(lane_rows(plan(log, seed=seed), epoch, 0))
        for seed, epoch in product((0, 1, 2**40), (0, 1))
    }
    assert len(set(orders.values())) == len(orders)
    group_orders = {
        tuple(span.row_group for w in plan(log, seed=s).windows(e, 0) for span in w.spans)
        for s, e in orders
    }
    assert len(group_orders) == len(orders)


def test_two_lanes_of_equal_rows_are_shuffled_apart() -> None:
    case = plan((50, 50), lanes=2, window_row_groups=1)
    first, second = epoch_rows(case, 0)
    assert [row for _, row in first] != [row for _, row in second]


def test_without_a_seed_the_order_is_that_of_the_files() -> None:
    rows = list(chain.from_iterable(epoch_rows(plan((2, 3, 1), lanes=3, seed=None), 4)))
    assert rows == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0)]


def test_the_order_of_a_run_never_changes_between_releases() -> None:
    """A resumed run relies on it: should this fail, a library has changed its random numbers."""
    case = plan((3, 1, 4), lanes=2, window_row_groups=2, seed=5)
    assert epoch_rows(case, 0) == [
        [(2, 0), (2, 1), (2, 3), (2, 2)],
        [(0, 2), (1, 0), (0, 0), (0, 1)],
    ]
    assert epoch_rows(case, 1) == [
        [(2, 3), (2, 1), (2, 0), (2, 2)],
        [(1, 0), (0, 2), (0, 1), (0, 0)],
    ]


def test_a_log_of_one_row_makes_one_step() -> None:
    case = plan((1,), lanes=4, rows_per_lane=2)
    assert case.steps_per_epoch == 1
    assert sorted(epoch_rows(case, 0)) == [[], [], [], [(0, 0)]]


def test_more_lanes_than_row_groups_cut_a_row_group() -> None:
    assert [len(rows) for rows in epoch_rows(plan((6,), lanes=4), 0)] == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("epochs", "max_steps", "end"),
    [(None, None, 6), (2, None, 12), (None, 100, 100), (2, 7, 7), (2, 100, 12)],
)
def test_a_run_ends_with_its_epochs_or_its_steps_whichever_come_first(
    epochs: int | None, max_steps: int | None, end: int
) -> None:
    six_steps = plan((6,), lanes=1, rows_per_lane=1)
    assert last_step(six_steps, epochs=epochs, max_steps=max_steps) == end
