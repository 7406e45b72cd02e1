"""Probabilities that a server logged, compared with the bundle's for the same rows.

Where they differ, training and serving do not see the same: a feature is computed in another way, a
column arrives in another type, or another model is being served.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nlargest

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_mtl.data.schema import (
    UNREADABLE,
    DataError,
    in_one_line,
    number_family,
    probability_column,
)
from recsys_mtl.serving.rows import RowsError
from recsys_mtl.serving.scorer import Scorer

_ROWS_AT_ONCE = 65_536
_WORST_SHOWN = 5


@dataclass(frozen=True)
class Difference:
    """One logged probability and the bundle's."""

    row: int
    """From 0, over the whole log."""
    task: str
    logged: float
    scored: float
    size: float
    """Of the difference; infinite where one of the two is no number."""


@dataclass
class Comparison:
    """What a comparison has found so far."""

    tasks: tuple[str, ...]
    """Those with a logged probability."""
    tolerance: float
    rows: int = 0
    not_logged: int = 0
    """Probabilities that are null in the log, which are compared with nothing."""
    largest: float = 0.0
    """The largest difference of all."""
    beyond: dict[str, int] = field(default_factory=dict)
    """Rows beyond the tolerance, by task; tasks without any are left out."""
    worst: list[Difference] = field(default_factory=list)
    """The largest differences beyond the tolerance, the largest first."""

    @property
    def is_equal(self) -> bool:
        """Whether no difference is beyond the tolerance."""
        return not self.beyond

    def add(
        self,
        logged: Mapping[str, NDArray[np.float64]],
        scored: Mapping[str, NDArray[np.float32]],
        known: Mapping[str, NDArray[np.bool_]],
    ) -> None:
        """Compare the next rows.

        Args:
            logged: by task, [n].
            scored: by task, [n].
            known: by task, [n]: whether a probability was logged.
        """
        for task in self.tasks:
            difference = np.abs(logged[task] - scored[task])
            difference = np.where(np.isnan(difference), np.inf, difference)[known[task]]
            places = np.flatnonzero(known[task])
            self.not_logged += len(known[task]) - len(places)
            self.largest = max(self.largest, float(difference.max(initial=0.0)))
            beyond = np.flatnonzero(difference > self.tolerance)
            if len(beyond) == 0:
                continue
            self.beyond[task] = self.beyond.get(task, 0) + len(beyond)
            for place in beyond[np.argsort(-difference[beyond], kind="stable")][:_WORST_SHOWN]:
                row = int(places[place])
                self.worst.append(
                    Difference(
                        self.rows + row,
                        task,
                        float(logged[task][row]),
                        float(scored[task][row]),
                        float(difference[place]),
                    )
                )
        self.worst = nlargest(_WORST_SHOWN, self.worst, key=lambda found: found.size)
        self.rows += len(scored[self.tasks[0]])


def verify_log(scorer: Scorer, log: str, tolerance: float) -> Comparison:
    """Score a log's rows again, some at a time.

    Args:
        log: path or URL of a Parquet file with the columns of the features and
            `probability_<task>` of at least one task.
        tolerance: the largest difference of two probabilities that counts as none.

    Raises:
        DataError: the file cannot be read, has no rows, lacks a column or has one of another type.
    """
    try:
        with fsspec.open(log, "rb") as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            tasks = _logged_tasks(parquet.schema_arrow, scorer, log)
            comparison = Comparison(tasks, tolerance)
            for batch in _batches(parquet, scorer, tasks):
                _compare(scorer, batch, comparison)
    except RowsError as error:
        raise DataError(f"{log}: {error}") from None
    except (*UNREADABLE, ValueError, ImportError) as error:
        raise DataError(
            f"{log} cannot be read as Parquet: {in_one_line(error)}; mend it or give another file"
        ) from None
    if comparison.rows == 0:
        raise DataError(f"{log} holds no rows; give a log with at least one")
    return comparison


def _logged_tasks(schema: pa.Schema, scorer: Scorer, log: str) -> tuple[str, ...]:
    tasks = tuple(task for task in scorer.bundle.tasks if probability_column(task) in schema.names)
    if not tasks:
        wanted = ", ".join(probability_column(task) for task in scorer.bundle.tasks)
        raise DataError(
            f"{log} has no logged probabilities; it needs at least one of the columns {wanted}, "
            f"and has: {', '.join(schema.names)}"
        )
    for column in map(probability_column, tasks):
        kind = schema.field(column).type
        if number_family(kind) is None:
            raise DataError(f"column {column!r} in {log} has type {kind}; it must hold numbers")
    return tasks


def _batches(
    parquet: pq.ParquetFile, scorer: Scorer, tasks: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    # A column of a feature that is not there is for the scorer to refuse, with its own sentence.
    wanted = [*scorer.bundle.columns, *map(probability_column, tasks)]
    present = [column for column in wanted if column in parquet.schema_arrow.names]
    yield from parquet.iter_batches(batch_size=_ROWS_AT_ONCE, columns=present)


def _compare(scorer: Scorer, batch: pa.RecordBatch, comparison: Comparison) -> None:
    scored = scorer.score(batch)
    columns = {task: batch.column(probability_column(task)) for task in comparison.tasks}
    comparison.add(
        {task: _numbers(column) for task, column in columns.items()},
        scored,
        {task: column.is_valid().to_numpy(False) for task, column in columns.items()},
    )


def _numbers(column: pa.Array) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(False)
    return numbers
