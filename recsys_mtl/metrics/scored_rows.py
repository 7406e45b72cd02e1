"""Scored rows on disk, cut by their group: whole groups come back together, within bounded memory.

A statistic over groups (users, sessions, values of a column) needs all rows of a group at once, and
a log holds more rows than memory does. Rows are therefore appended to 256 files, chosen by the
upper 8 bits of the group's key, and read back file by file.
"""

# n rows, M models, T tasks

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mtl.config import UserError

PARTITIONS = 256
_KEY_BITS = 64
_PARTITION_BITS = 8
BUFFER_BYTES = 32 << 20
"""Rows kept before they are written: the larger, the fewer and longer the writes."""
BLOCK_ROWS = 1 << 22
"""Rows that are read at a time; a statistic then takes about 150 bytes for each of them."""
LARGEST_BLOCK_ROWS = 1 << 24
"""A group of more rows is refused: it would not fit beside a worker's tables."""


class ScoredBlock(NamedTuple):
    """Some scored rows."""

    keys: NDArray[np.uint64]
    """[n] The group of each row."""
    logits: NDArray[np.float32]
    """[n, M, T] As the models gave them; NaN and infinite ones included."""
    labels: NDArray[np.bool_]
    """[n, T] False where the row has no label."""
    weights: NDArray[np.float32]
    """[n, T] 0 where the row has no label, or does not count."""


class ScoredRows:
    """Rows with their scores, in a folder that the caller makes room for and removes.

    Args:
        folder: it is made when missing, and must hold nothing.
        num_tasks: T.
        num_models: M, the number of models that scored each row.
        most_groups: how many groups the rows may have; any number when None.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        num_tasks: int,
        num_models: int = 1,
        *,
        most_groups: int | None = None,
    ) -> None:
        self.num_rows = 0
        self.num_tasks = num_tasks
        self._folder = folder
        self._most_groups = most_groups
        self._groups = np.empty(0, np.uint64)
        self._record = np.dtype(
            [
                ("keys", np.uint64),
                ("logits", np.float32, (num_models, num_tasks)),
                ("weights", np.float32, (num_tasks,)),
                ("labels", np.bool_, (num_tasks,)),
            ]
        )
        self._buffer: list[NDArray[np.void]] = []
        self._buffered_bytes = 0
        with self._on_disk():
            folder.mkdir(parents=True, exist_ok=True)
        assert not any(folder.iterdir()), f"{folder} holds files of something else"

    def append(
        self,
        keys: NDArray[np.uint64],
        logits: NDArray[np.float32],
        labels: NDArray[np.bool_] | NDArray[np.number],
        weights: NDArray[np.floating],
    ) -> None:
        """Adds rows.

        Args:
            keys: [n] 64 well-mixed bits per group: equal for rows of one group, and different for
                rows of two. For rows without groups, a number per row, mixed as well.
            logits: [n, M, T]
            labels: [n, T] above 0.5 for a positive; anything where the weight is 0.
            weights: [n, T] 0 or more; 1 per labelled row when rows have no weights.

        Raises:
            UserError: the rows could not be written, as when the disk is full, or there are more
                groups than `most_groups`.
        """
        if self._most_groups is not None:
            self._groups = np.union1d(self._groups, keys)
            refuse_groups(len(self._groups), self._most_groups)
        records = np.empty(len(keys), self._record)
        records["keys"], records["logits"], records["weights"] = keys, logits, weights
        records["labels"] = (labels > 0.5) & (weights > 0)
        self.num_rows += len(records)
        self._buffer.append(records)
        self._buffered_bytes += records.nbytes
        if self._buffered_bytes >= BUFFER_BYTES:
            self._flush()

    def partitions(self) -> Iterator[ScoredBlock]:
        """Yields every row once, whole groups in one block, in the order of `append` inside it.

        Blocks hold about 1/256 of the rows, or where that is more, about `BLOCK_ROWS`. Two spills
        of the same rows in the same order are cut alike.

        Raises:
            UserError: a group has more than `LARGEST_BLOCK_ROWS` rows, or a file is not readable.
        """
        for partition in range(PARTITIONS):
            num_rows = self.rows_of_partition(partition)
            parts = 1 << (max(num_rows - 1, 0) // BLOCK_ROWS).bit_length()
            for part in range(parts):
                pieces = list(self._part(partition, part, parts))
                if pieces and len(records := np.concatenate(pieces)):
                    yield self._block(records)

    def rows_of_partition(self, partition: int) -> int:
        """Returns the number of rows whose keys begin with the 8 bits of `partition`."""
        self._flush()
        path = self._path(partition)
        return path.stat().st_size // self._record.itemsize if path.exists() else 0

    def pieces_of_partition(self, partition: int) -> Iterator[ScoredBlock]:
        """Yields these rows in the order of `append`, in blocks of at most `BLOCK_ROWS`.

        A block may hold a part of a group, which may have any number of rows.

        Raises:
            UserError: a file is not readable.
        """
        yield from (self._block(records) for records in self._read(partition))

    def _part(self, partition: int, part: int, parts: int) -> Iterator[NDArray[np.void]]:
        """The rows of a partition whose next key bits are `part` of `parts`, a power of two."""
        shift = np.uint64(_KEY_BITS - _PARTITION_BITS - (parts.bit_length() - 1))
        rows = 0
        for records in self._read(partition):
            if parts > 1:
                bits = (records["keys"] >> shift) & np.uint64(parts - 1)
                records = records[bits == part]
            rows += len(records)
            if rows > LARGEST_BLOCK_ROWS:
                raise UserError(
                    f"one group has more than about {LARGEST_BLOCK_ROWS:,} of the "
                    f"{self.num_rows:,} scored rows, too many to sort in memory; group by a column "
                    "with more values"
                )
            yield records

    def _read(self, partition: int) -> Iterator[NDArray[np.void]]:
        path, num_rows = self._path(partition), self.rows_of_partition(partition)
        for first in range(0, num_rows, BLOCK_ROWS):
            # np.fromfile makes room for as many rows as it is asked for, whatever the file holds.
            count, offset = min(BLOCK_ROWS, num_rows - first), first * self._record.itemsize
            with self._on_disk():
                records = np.fromfile(path, self._record, count, offset=offset)
            yield records

    def _flush(self) -> None:
        """Writes what is buffered, each row to the file of its partition."""
        if not self._buffer:
            return
        records = np.concatenate(self._buffer)
        self._buffer, self._buffered_bytes = [], 0
        partitions = (records["keys"] >> np.uint64(_KEY_BITS - _PARTITION_BITS)).astype(np.uint8)
        order = np.argsort(partitions, kind="stable")
        ends = np.cumsum(np.bincount(partitions, minlength=PARTITIONS))
        for partition, rows in enumerate(np.split(order, ends[:-1])):
            if len(rows):
                # Opened per write: 256 open files would come near to what a process may have.
                with self._on_disk(), self._path(partition).open("ab") as file:
                    file.write(records[rows].tobytes())

    def _block(self, records: NDArray[np.void]) -> ScoredBlock:
        return ScoredBlock(*(np.ascontiguousarray(records[name]) for name in ScoredBlock._fields))

    def _path(self, partition: int) -> Path:
        return self._folder / f"{partition:03d}.rows"

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._folder}: {error.strerror or error} after {self.num_rows:,} scored rows of "
                f"{self._record.itemsize} bytes each; make room there, or set TMPDIR to a folder "
                "that has it"
            ) from error


def refuse_groups(groups: int, most: int) -> None:
    """Raises UserError for more groups than `most`."""
    if groups > most:
        raise UserError(
            f"the column to slice by has more than {most:,} values; slice by one with fewer, "
            "or give it to --group-by"
        )


def pairs(new: ScoredRows, other: ScoredRows) -> Iterator[ScoredBlock]:
    """Yields the partitions of two models' spills as one: logits [n, 2, T], the new model's first.

    Raises:
        UserError: the two do not hold the same rows in the same order.
    """
    if new.num_rows != other.num_rows:
        raise UserError(_NOT_ALIKE.format(f"{new.num_rows:,} rows and {other.num_rows:,}"))
    for ours, theirs in zip(new.partitions(), other.partitions(), strict=True):
        for name in ("keys", "labels", "weights"):
            if not np.array_equal(getattr(ours, name), getattr(theirs, name)):
                raise UserError(_NOT_ALIKE.format(f"other {name}"))
        yield ours._replace(logits=np.concatenate((ours.logits, theirs.logits), axis=1))


_NOT_ALIKE = (
    "the two runs did not score the same rows in the same order ({}): compare runs on one log, "
    "with labels and weights from the same columns"
)
