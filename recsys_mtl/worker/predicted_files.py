"""Writes scores beside kept columns, file by file, each of which appears whole or not at all.

n rows that arrive together, T tasks.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_mtl.data.file_stream import FileRows
from recsys_mtl.data.schema import probability_column
from recsys_mtl.worker.host import OutputFolder


class PredictedFiles:
    """Puts scores, which arrive in the order of the rows, into the files of their rows.

    Use it in a `with` block: after an error, the file that was being written does not appear.
    """

    def __init__(
        self, output: OutputFolder, names: Mapping[str, str], task_names: Sequence[str]
    ) -> None:
        """Write nothing yet.

        Args:
            names: file of the log to the name of its output.
        """
        self._output, self._names, self._tasks = output, names, tuple(task_names)
        self._expected: deque[FileRows] = deque()
        self._scores: list[NDArray[np.float32]] = []
        self._num_scores = 0
        self._open = ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert kind is not None or not (self._expected or self._num_scores), "rows are left over"
        self._open.__exit__(kind, error, traceback)

    def expect(self, groups: Iterable[FileRows]) -> None:
        """Scores of these row groups follow those that were expected before."""
        self._expected += groups

    def add(self, scores: NDArray[np.float32]) -> None:
        """Take the next rows' scores, and write the row groups that are complete.

        Args:
            scores: [n, T]
        """
        self._scores.append(scores)
        self._num_scores += len(scores)
        while self._expected and self._num_scores >= len(self._expected[0].features.dense):
            group = self._expected.popleft()
            rows = len(group.features.dense)
            everything = np.concatenate(self._scores)
            self._scores, self._num_scores = [everything[rows:]], len(everything) - rows
            self._write(group, everything[:rows])

    def _write(self, group: FileRows, scores: NDArray[np.float32]) -> None:
        table = group.kept
        for place, task in enumerate(self._tasks):
            column = pa.array(np.ascontiguousarray(scores[:, place]), pa.float32())
            table = table.append_column(probability_column(task), column)
        if self._writer is None:
            path = self._open.enter_context(self._output.new_file(self._names[group.file]))
            writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            self._writer = self._open.enter_context(writer)
        self._writer.write_table(table)
        if group.ends_file:
            self._writer = None
            self._open.close()
