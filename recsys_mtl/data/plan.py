"""Which row is trained at which step: a pure function, the same on every worker.

An epoch's row groups, permuted by (seed, epoch), stand in one line of N rows that is cut into
lanes of equal length (to one row). Inside a lane, rows are shuffled within windows of a few row
groups. The global batch of step k takes the next `global_batch_size / lanes` rows of every lane.
Nothing of that depends on the number of workers: worker r of W, at most as many as there are lanes,
reads the lanes r, r + W, ..., so a run that changes W goes on with the same batches. MosaicML
Streaming reaches the same with canonical nodes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recsys_mtl.config import Data
from recsys_mtl.data.manifest import Manifest

_ROW_GROUP_ORDER, _ROW_ORDER = 0, 1  # separate the streams of random numbers


@dataclass(frozen=True)
class Span:
    """Rows start to stop (exclusive) of one row group."""

    row_group: int
    start: int
    stop: int


@dataclass(frozen=True)
class Window:
    """Neighbouring spans of a lane whose rows are shuffled together."""

    spans: tuple[Span, ...]
    first: int
    """Place of its first row in the lane."""
    rows: int
    seed: tuple[int, ...] | None
    """Decides the order of its rows; None keeps the order of the file."""

    def order(self) -> NDArray[np.int64]:
        """[rows] The place in the concatenated spans of the row trained first, second, ..."""
        return np.arange(self.rows) if self.seed is None else _permutation(self.rows, self.seed)


@dataclass(frozen=True)
class Plan:
    """How a log of given row groups is cut into the steps of an epoch."""

    row_counts: Sequence[int]
    """Rows of each row group, in the manifest's order."""
    lanes: int
    global_batch_size: int
    """A multiple of lanes."""
    window_row_groups: int
    seed: int | None
    """None leaves every row in the order of the files (evaluation)."""

    @property
    def rows_per_lane(self) -> int:
        """Rows that each lane gives to one step."""
        return self.global_batch_size // self.lanes

    @cached_property
    def rows(self) -> int:
        """Rows of an epoch."""
        return sum(self.row_counts)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Steps until the longest lane is used up; shorter lanes pad their last batch."""
        longest_lane = -(-self.rows // self.lanes)
        return -(-longest_lane // self.rows_per_lane)

    def lanes_of_worker(self, rank: int, world_size: int) -> range:
        """The lanes that worker `rank` of `world_size` reads.

        Every worker has as many, so that all have as many batch rows. Numbers from `lanes` on are
        padding lanes, which have no rows. Example: of 4 lanes, 3 workers have 0 and 3, 1 and 4,
        2 and 5; 4 and 5 are padding lanes.
        """
        assert world_size <= self.lanes, "checked when the configuration was read"
        lanes_per_worker = -(-self.lanes // world_size)
        return range(rank, lanes_per_worker * world_size, world_size)

    def lane_rows(self, lane: int) -> int:
        """Rows of one lane in an epoch; lanes differ by at most one. A padding lane has none."""
        begin, end = self._lane_bounds(lane)
        return end - begin

    def windows(self, epoch: int, lane: int) -> list[Window]:
        """The windows of a lane in the order they are trained; each row of an epoch is in one.

        A padding lane has no windows.
        """
        spans = self._lane_spans(epoch, lane)
        cuts = [*range(0, len(spans), self.window_row_groups), len(spans)]
        windows, first = [], 0
        for index, (begin, end) in enumerate(pairwise(cuts)):
            rows = sum(s.stop - s.start for s in spans[begin:end])
            seed = None if self.seed is None else (self.seed, epoch, _ROW_ORDER, lane, index)
            windows.append(Window(tuple(spans[begin:end]), first, rows, seed))
            first += rows
        return windows

    def row_numbers(self, step: int, lanes: Iterable[int]) -> NDArray[np.int64]:
        """[rows_per_lane * lanes] The place in the epoch's line of each row of a step.

        It is a number of the row's own, whatever the number of workers; of padding, any number.
        """
        first = step % self.steps_per_epoch * self.rows_per_lane
        places = first + np.arange(self.rows_per_lane)
        return np.concatenate([self._lane_bounds(lane)[0] + places for lane in lanes])

    def _lane_bounds(self, lane: int) -> tuple[int, int]:
        """First row and end (exclusive) of a lane in the line of an epoch's rows."""
        begin, end = min(lane, self.lanes), min(lane + 1, self.lanes)  # padding lanes lie behind it
        return begin * self.rows // self.lanes, end * self.rows // self.lanes

    def _lane_spans(self, epoch: int, lane: int) -> list[Span]:
        begin, end = self._lane_bounds(lane)
        groups = np.arange(len(self.row_counts))
        if self.seed is not None:
            groups = _permutation(len(groups), (self.seed, epoch, _ROW_GROUP_ORDER))
        ends = np.cumsum(np.asarray(self.row_counts)[groups])
        spans = []
        for place in range(int(np.searchsorted(ends, begin, side="right")), len(groups)):
            group = int(groups[place])
            group_begin = int(ends[place]) - self.row_counts[group]
            if group_begin >= end:
                break
            start, stop = max(begin, group_begin), min(end, int(ends[place]))
            if stop > start:
                spans.append(Span(group, start - group_begin, stop - group_begin))
        return spans


def _permutation(length: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """A permutation that no numpy release changes: only bit generators and SeedSequence are
    promised to be stable (NEP 19), so random bits are sorted instead of calling `permutation`."""
    bits = np.random.Philox(np.random.SeedSequence(seed)).random_raw(length)
    return np.argsort(bits, kind="stable")


def plan_of(manifest: Manifest, data: Data, *, global_batch_size: int, seed: int | None) -> Plan:
    """The plan of a log; `seed=None` keeps the files' order (evaluation)."""
    return Plan(
        row_counts=[group.rows for group in manifest.row_groups],
        lanes=data.lanes,
        global_batch_size=global_batch_size,
        window_row_groups=1 if seed is None else data.shuffle_window_row_groups,
        seed=seed,
    )


def last_step(plan: Plan, *, epochs: int | None, max_steps: int | None) -> int:
    """Steps at the end of a run: whichever of the two comes first, or one epoch without either.

    Args:
        plan: of the training log.
        epochs: passes over it.
    """
    if epochs is None and max_steps is not None:
        return max_steps
    by_epochs = (epochs or 1) * plan.steps_per_epoch
    return min(by_epochs, max_steps or by_epochs)
