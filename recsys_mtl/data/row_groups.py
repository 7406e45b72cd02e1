"""One row group at a time, read patiently and checked."""

import logging
import time
from collections.abc import Sequence

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import Data
from recsys_mtl.data.manifest import Manifest, RowGroup
from recsys_mtl.data.schema import DataError, column_families

_log = logging.getLogger(__name__)

_PAUSES_SECONDS = (0.5, 2.0, 8.0)  # before a read is tried again
_FOOTERS_KEPT = 64


class RowGroupReader:
    """Reads columns of a log's row groups, in the types of the file."""

    def __init__(
        self, manifest: Manifest, data: Data, columns: Sequence[str], *, labelled: bool = True
    ) -> None:
        """Prepare to read.

        Args:
            columns: to be read; every file has them.
            labelled: False for a log whose labels may be absent.
        """
        self._filesystem, _ = fsspec.core.url_to_fs(manifest.url)
        self._footers: dict[tuple[str, int], pq.FileMetaData] = {}
        self._data, self._columns, self._labelled = data, list(columns), labelled

    def read(self, group: RowGroup) -> pa.Table:
        """The columns of one row group; tried again after a pause where the storage was at fault.

        Raises:
            DataError: the file has changed, or a column has another type than at the start.
            OSError, UnicodeDecodeError, pyarrow.ArrowException: the file cannot be read.
        """
        for pause_seconds in _PAUSES_SECONDS:
            try:
                return self._read_once(group)
            except OSError as error:
                if not may_pass(error):
                    raise
                _log.warning("%s: %s; trying again", group.file, error)
                time.sleep(pause_seconds)
        return self._read_once(group)

    def read_nothing(self, file: str) -> pa.Table:
        """The columns of a file, without rows."""
        with self._filesystem.open(file, "rb") as handle:
            return pq.ParquetFile(handle).schema_arrow.empty_table().select(self._columns)

    def _read_once(self, group: RowGroup) -> pa.Table:
        with self._filesystem.open(group.file, "rb") as handle:
            known = self._footers.get((group.file, handle.size))
            parquet = pq.ParquetFile(handle, metadata=known, page_checksum_verification=True)
            if known is None:
                schema = parquet.schema_arrow
                column_families(schema, self._data, group.file, labelled=self._labelled)
                self._keep_footer((group.file, handle.size), parquet.metadata)
            if (
                group.index >= parquet.num_row_groups
                or parquet.metadata.row_group(group.index).num_rows != group.rows
            ):
                raise DataError("the file has changed since the run began")
            return parquet.read_row_group(group.index, columns=self._columns, use_threads=False)

    def _keep_footer(self, key: tuple[str, int], footer: pq.FileMetaData) -> None:
        """A file of many row groups would spend its time on parsing its footer for each."""
        if len(self._footers) >= _FOOTERS_KEPT:
            self._footers.pop(next(iter(self._footers)))
        self._footers[key] = footer


def may_pass(error: BaseException) -> bool:
    """Whether the storage may answer the next time: an OSError of the system, with a number.

    Arrow raises one without a number for bytes it cannot decode, and clients of object stores for
    a connection that was lost.
    """
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    lasting = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)
    return isinstance(error, OSError) and error.errno is not None and not lasting
