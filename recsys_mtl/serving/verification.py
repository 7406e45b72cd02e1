"""Probabilities that a server logged, compared with the bundle's for the same rows.

Where they differ, training and serving do not see the same: a feature is computed in another way, a
column arrives in another type, or another model is being served.

n rows.
"""

from dataclasses import dataclass, field
from heapq import nlargest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_mtl.data.manifest import list_files
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
_WORST_KEPT = 5


@dataclass(frozen=True)
class Difference:
    """One logged probability and the bundle's."""

    file: str
    row: int
    """Of the file, from 0."""
    task: str
    logged: float
    scored: float
    size: float
    """Of the difference; infinite where one of the two is no number."""


@dataclass
class Comparison:
    """What a comparison has found so far."""

    tolerance: float
    """The largest difference of two probabilities that counts as none."""
    rows: int = 0
    compared: dict[str, int] = field(default_factory=dict)
    """Logged probabilities by task, of the tasks that were logged at all."""
    not_logged: int = 0
    """Probabilities that are null in the log, which are compared with nothing."""
    largest: float = 0.0
    """The largest difference of all."""
    beyond: dict[str, int] = field(default_factory=dict)
    """Probabilities beyond the tolerance, by task; tasks without any are left out."""
    worst: list[Difference] = field(default_factory=list)
    """The largest differences beyond the tolerance, the largest first."""

    @property
    def is_equal(self) -> bool:
        """Whether no difference is beyond the tolerance."""
        return not self.beyond

    def add(
        self,
        file: str,
        first_row: int,
        task: str,
        logged: pa.Array,
        scored: NDArray[np.float32],
    ) -> None:
        """Compare the next probabilities of a task.

        Args:
            file: where they are logged, from row `first_row` on.
            logged: [n] numbers; a null is compared with nothing.
            scored: [n]
        """
        known = logged.is_valid().to_numpy(zero_copy_only=False)
        values = pc.cast(logged, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        difference = np.abs(values - scored)
        sizes = np.where(known, np.where(np.isnan(difference), np.inf, difference), 0.0)
        self.compared[task] = self.compared.get(task, 0) + int(known.sum())
        self.not_logged += int((~known).sum())
        self.largest = max(self.largest, float(sizes.max(initial=0.0)))
        beyond = np.flatnonzero(sizes > self.tolerance)
        if len(beyond) == 0:
            return
        self.beyond[task] = self.beyond.get(task, 0) + len(beyond)
        for row in beyond[np.argsort(-sizes[beyond], kind="stable")][:_WORST_KEPT].tolist():
            numbers = (float(values[row]), float(scored[row]), float(sizes[row]))
            self.worst.append(Difference(file, first_row + row, task, *numbers))
        self.worst = nlargest(_WORST_KEPT, self.worst, key=lambda one: one.size)


def verify_log(scorer: Scorer, log: str, tolerance: float) -> Comparison:
    """Score a log's rows again, some at a time.

    Args:
        log: a Parquet file, folder or glob, on a local path or any fsspec URL, with the columns of
            the features and `probability_<task>` of at least one task.
        tolerance: see `Comparison`.

    Raises:
        DataError: a file cannot be read, lacks a column or has one of another type, or nothing was
            logged.
    """
    filesystem, files = list_files(log)
    comparison = Comparison(tolerance)
    for file in files:
        try:
            with filesystem.open(file, "rb") as handle:
                parquet = pq.ParquetFile(handle, page_checksum_verification=True)
                _add_file(scorer, parquet, file, comparison)
        except RowsError as error:
            raise DataError(f"{file}: {error}") from None
        except UNREADABLE as error:
            raise DataError(
                f"{file} cannot be read as Parquet: {in_one_line(error)}; mend or remove it"
            ) from None
    if not any(comparison.compared.values()):
        raise DataError(
            f"{log} holds no logged probability in its {comparison.rows:,} rows; give a log with "
            "at least one"
        )
    return comparison


def _add_file(scorer: Scorer, parquet: pq.ParquetFile, file: str, comparison: Comparison) -> None:
    names = parquet.schema_arrow.names
    tasks = _logged_tasks(parquet.schema_arrow, scorer, file)
    # A column of a feature that is not there is for the scorer to refuse, with its own sentence.
    wanted = [*scorer.bundle.columns, *map(probability_column, tasks)]
    first_row = 0
    for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=[c for c in wanted if c in names]):
        scored = scorer.score(batch)
        for task in tasks:
            logged = batch.column(probability_column(task))
            comparison.add(file, first_row, task, logged, scored[task])
        first_row += batch.num_rows
    comparison.rows += first_row


def _logged_tasks(schema: pa.Schema, scorer: Scorer, file: str) -> list[str]:
    tasks = [task for task in scorer.bundle.tasks if probability_column(task) in schema.names]
    if not tasks:
        wanted = ", ".join(map(probability_column, scorer.bundle.tasks))
        raise DataError(
            f"{file} has no logged probabilities; it needs at least one of the columns {wanted}, "
            f"and has: {', '.join(schema.names)}"
        )
    for column in map(probability_column, tasks):
        kind = schema.field(column).type
        if number_family(kind) is None:
            raise DataError(f"column {column!r} in {file} has type {kind}; it must hold numbers")
    return tasks
