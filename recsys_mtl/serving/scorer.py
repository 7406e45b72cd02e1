"""Rows as an application has them, to one probability per task.

n rows, B rows of one forward, E columns of all pooled embeddings, F columns of all dense inputs, T
tasks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys_mtl.data.dense_inputs import dense_inputs
from recsys_mtl.data.features import EncodedFeatures, encode_features
from recsys_mtl.serving.bundle import MODEL, Bundle, BundleError, read_bundle
from recsys_mtl.serving.rows import Rows, read_rows
from recsys_mtl.serving.tables import MappedTables

Probabilities = dict[str, NDArray[np.float32]]
"""Task to the probability of each row, [n]."""

_ROWS_AT_ONCE = 8192  # bounds the memory of a forward, whatever the number of rows


class Scorer:
    """A bundle, ready to score.

    It changes nothing after `load`, so any number of threads may share one. Torch's own threads are
    the process's to set: a server with several workers or threads does best with
    `torch.set_num_threads(1)`.
    """

    def __init__(self, bundle: Bundle, tables: MappedTables, model: nn.Module) -> None:
        self.bundle = bundle
        """What the bundle says of itself: features, columns, tasks, the run and its metrics."""
        self._tables, self._model = tables, model

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = True) -> Self:
        """The bundle in a local folder.

        Args:
            folder: which `recsys-mtl export` wrote.
            verify: read every file and compare it with its checksum. False starts faster with
                large tables, and leaves damage for the scores to show.

        Raises:
            BundleError: there is no bundle, it is damaged, or of another version.
        """
        place = Path(folder)
        bundle = read_bundle(place, verify=verify)
        return cls(bundle, MappedTables(place, bundle), _load_model(place / MODEL, bundle.torch))

    def score(self, rows: Rows) -> Probabilities:
        """The probability of each task for each row.

        Args:
            rows: n rows as a pyarrow Table or RecordBatch, a pandas frame or a list of dicts, with
                raw values as in the log that was trained on. Columns may stand in any order, with
                others among them. A key that a dict lacks is null; a frame or table must have the
                column of every feature.

        Returns:
            Task to [n] float32, in the order of the rows.

        Raises:
            RowsError: a column is missing or holds something else than it held in the log.
        """
        return self.score_columns(self.read(rows))

    def read(self, rows: Rows) -> pa.Table:
        """Rows as `score_columns` takes them: the columns of the log, each in one Arrow type.

        Raises:
            RowsError: see `score`.
        """
        return read_rows(rows, self.bundle.columns)

    def score_columns(self, table: pa.Table) -> Probabilities:
        """The probabilities of rows that `read` returned."""
        logits = [
            self.logits(encode_features(table.slice(start, _ROWS_AT_ONCE), self.bundle))
            for start in range(0, table.num_rows, _ROWS_AT_ONCE)
        ]
        tasks = self.bundle.tasks
        scores = torch.cat(logits) if logits else torch.zeros(0, len(tasks))
        columns = torch.sigmoid(scores).T.contiguous().numpy()
        return dict(zip(tasks, columns, strict=True))

    def score_each(self, tables: Sequence[pa.Table]) -> list[Probabilities]:
        """The probabilities of several requests, in as few forwards as of one.

        Args:
            tables: each returned by `read`.
        """
        try:
            together = pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException:  # a column that the log had no value in: anything goes there
            return [self.score_columns(table) for table in tables]
        scores = self.score_columns(together)
        ends = np.cumsum([table.num_rows for table in tables])[:-1]
        parts = {task: np.split(column, ends) for task, column in scores.items()}
        return [{task: parts[task][place] for task in parts} for place in range(len(tables))]

    @torch.inference_mode()
    def logits(self, features: EncodedFeatures) -> Tensor:
        """[B, T] The logits of at least one encoded row."""
        dense = torch.from_numpy(dense_inputs(features.dense, features.places, self.bundle))
        pooled = self._tables.pool(features.ids) if features.ids else dense.new_empty(len(dense), 0)
        logits: Tensor = self._model(pooled, dense)
        return logits


def _load_model(path: Path, written_by: str) -> nn.Module:
    """The network from pooled embeddings and dense inputs to logits.

    Args:
        written_by: the release of torch.
    """
    try:
        module: nn.Module = torch.export.load(path).module()
    except Exception as error:  # torch raises whatever its parsers raise
        raise BundleError(
            f"{path}, written by torch {written_by}, cannot be loaded by torch {torch.__version__} "
            f"({type(error).__name__}); install the first, or copy or export the bundle again"
        ) from None
    return module
