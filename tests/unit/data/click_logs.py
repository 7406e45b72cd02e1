"""Small click logs whose every row can be told from the others, and the `Data` that reads them."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import Data
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.manifest import Manifest, read_manifest
from recsys_mtl.data.plan import Plan, plan_of
from recsys_mtl.data.stream import BatchStream

ROW_TABLE_ROWS = 1_000_000
"""More than any log here has rows, so that the ids of `row` are the rows' numbers."""


SEED = 3
FILES = [[5, 3], [1], [4, 6, 2]]
"""21 rows; over 4 lanes of 2 rows a step: 3 steps, the last one padded."""

Lane = list[tuple[Any, ...]]


def fresh_generator() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def click_data(**settings: Any) -> Data:
    """Reads `row` (its number), `words` (a list of strings), `price` and the label `buy`."""
    tree: dict[str, Any] = {
        "train": "unused",
        "eval": "unused",
        "features": {
            "row": {"kind": "id", "rows": ROW_TABLE_ROWS, "embedding_dim": 4},
            "words": {"kind": "id", "rows": 50, "embedding_dim": 4},
            "price": {"kind": "dense"},
        },
        "labels": {"purchase": "buy"},
        "lanes": 4,
        "prefetch_batches": 2,
    }
    return Data.model_validate(tree | settings)


def clicks(first_row: int, num_rows: int) -> pa.Table:
    """Rows first_row, first_row + 1, ...: price is half the number, every third row is bought and
    row i has i % 3 words."""
    numbers = range(first_row, first_row + num_rows)
    return pa.table(
        {
            "row": pa.array(numbers, pa.int64()),
            "words": pa.array([[f"word{i}"] * (i % 3) for i in numbers], pa.list_(pa.string())),
            "price": pa.array([i / 2 for i in numbers], pa.float32()),
            "buy": pa.array([int(i % 3 == 0) for i in numbers], pa.int8()),
        }
    )


def write_groups(file: Path | Any, groups: Sequence[pa.Table], **options: Any) -> None:
    """One Parquet file with these row groups."""
    with pq.ParquetWriter(file, groups[0].schema, **options) as writer:
        for group in groups:
            writer.write_table(group)


def write_log(folder: Path, files: Sequence[Sequence[int]], **options: Any) -> str:
    """`files` holds the row counts of each file's row groups; rows are numbered from 0 on."""
    folder.mkdir(parents=True, exist_ok=True)
    first = 0
    for place, row_counts in enumerate(files):
        groups = []
        for rows in row_counts:
            groups.append(clicks(first, rows))
            first += rows
        write_groups(folder / f"part-{place}.parquet", groups, **options)
    return str(folder)


class Log:
    """A log, its plan, and what streams of it give."""

    def __init__(self, url: str, *, rows_per_lane: int = 2, **settings: Any) -> None:
        self.data: Data = click_data(**settings)
        self.manifest: Manifest = read_manifest(url, self.data)
        self.plan: Plan = plan_of(
            self.manifest,
            self.data,
            global_batch_size=rows_per_lane * self.data.lanes,
            seed=SEED,
        )

    def stream(
        self, first_step: int, last_step: int, *, rank: int = 0, world_size: int = 1
    ) -> BatchStream:
        return BatchStream(
            self.manifest,
            self.plan,
            self.data,
            rank=rank,
            world_size=world_size,
            first_step=first_step,
            last_step=last_step,
        )

    def batches(self, first_step: int = 0, last_step: int | None = None) -> list[ClickBatch]:
        """One worker's batches; of one epoch when `last_step` is not given."""
        last_step = self.plan.steps_per_epoch if last_step is None else last_step
        with self.stream(first_step, last_step) as batches:
            return list(batches)


def row_numbers(batches: list[ClickBatch]) -> list[int]:
    """Numbers of the rows that are no padding, with the first feature's missing row among them."""
    return [row for b in batches if b.ids is not None for row in b.ids.bags_of("row")[0].tolist()]


def lanes_of(batch: ClickBatch, num_lanes: int) -> list[Lane]:
    """All a batch holds, row by row, lane by lane."""
    assert batch.ids is not None
    bags = []
    for feature in batch.ids.names:
        values, lengths = batch.ids.bags_of(feature)
        bags.append(np.split(values.numpy(), np.cumsum(lengths.numpy())[:-1]))
    rows = [
        (
            *(tuple(bag[row].tolist()) for bag in bags),
            float(batch.dense[row].sum()),  # of one column or none
            batch.labels[row].item(),
            batch.label_mask[row].item(),
        )
        for row in range(len(batch.dense))
    ]
    size = len(rows) // num_lanes
    return [rows[lane * size : (lane + 1) * size] for lane in range(num_lanes)]


def global_batches(log: Log, world_size: int, last_step: int) -> list[list[Lane]]:
    """[steps][lanes] Rows, put together from the batches of all workers.

    Padding lanes are left out, and have no rows.
    """
    lanes = log.data.lanes
    steps: list[list[Lane]] = [[[] for _ in range(lanes)] for _ in range(last_step)]
    for rank in range(world_size):
        with log.stream(0, last_step, rank=rank, world_size=world_size) as batches:
            found = list(batches)
        assert [batch.step for batch in found] == list(range(last_step))
        own = log.plan.lanes_of_worker(rank, world_size)
        for batch in found:
            for lane, rows in zip(own, lanes_of(batch, len(own)), strict=True):
                if lane < lanes:
                    steps[batch.step][lane] = rows
                else:
                    assert not any(row[0] or row[-1] for row in rows)  # no id, no known label
    return steps
