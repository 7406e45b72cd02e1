"""Batches from any step on, decoded on a background thread."""

import logging
import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import Data
from recsys_mtl.data.batch import ClickBatch, assemble
from recsys_mtl.data.features import REJECTED, EncodedRows, encode
from recsys_mtl.data.manifest import Manifest, RowGroup
from recsys_mtl.data.plan import Plan, Span, Window
from recsys_mtl.data.schema import (
    UNREADABLE,
    DataError,
    column_families,
    columns_read,
    in_one_line,
    is_list,
)

_log = logging.getLogger(__name__)

_STOP_SECONDS = 10.0  # a read that hangs must not hold up the error that ends the run
_READ_SECONDS = 300.0  # a read that hangs must not hang the run
_PAUSES_SECONDS = (0.5, 2.0, 8.0)  # before a read is tried again
_FOOTERS_KEPT = 64


class BatchStream:
    """A worker's batches of steps `first_step` to `last_step` (exclusive), in order.

    A thread reads ahead by `data.prefetch_batches`; iterate once, inside a `with` block, which ends
    the thread. What the thread raises is raised by the iteration, so nothing waits for ever.
    """

    def __init__(
        self,
        manifest: Manifest,
        plan: Plan,
        data: Data,
        *,
        rank: int,
        world_size: int,
        first_step: int,
        last_step: int,
    ) -> None:
        self._reader = _LaneReader(manifest, data)
        self._plan, self._data = plan, data
        self._lanes = plan.lanes_of_worker(rank, world_size)
        self._steps = range(first_step, last_step)
        self._queue: queue.Queue[ClickBatch | BaseException | None]
        self._queue = queue.Queue(maxsize=data.prefetch_batches)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="click-log-reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join(_STOP_SECONDS)

    def __iter__(self) -> Iterator[ClickBatch]:
        assert self._thread.ident is not None, "nothing reads outside the `with` block"
        while not self._stopped.is_set():
            try:
                item = self._queue.get(timeout=_READ_SECONDS)
            except queue.Empty:
                message = f"the reader gave no batch for {_READ_SECONDS} s; is the storage hanging?"
                raise TimeoutError(message) from None
            if isinstance(item, ClickBatch):
                yield item
                continue
            self._stopped.set()
            if item is not None:
                raise item

    def _fill(self) -> None:
        try:
            for batch in self._batches():
                if not self._put(batch):
                    return
            self._put(None)
        except BaseException as error:  # raised again by the thread that iterates
            self._put(error)

    def _put(self, item: ClickBatch | BaseException | None) -> bool:
        """Wait for a place in the queue; False when nobody wants the item any more."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def _batches(self) -> Iterator[ClickBatch]:
        epoch, lanes = -1, []
        size = self._plan.rows_per_lane
        for step in self._steps:
            step_epoch, place = divmod(step, self._plan.steps_per_epoch)
            if step_epoch != epoch:
                epoch = step_epoch
                lanes = [
                    self._reader.pieces(self._plan.windows(epoch, lane), place * size, size)
                    for lane in self._lanes
                ]
            yield assemble(step, [next(lane, []) for lane in lanes], size, self._data)


class _LaneReader:
    """Decodes the windows of lanes."""

    def __init__(self, manifest: Manifest, data: Data) -> None:
        self._filesystem, _ = fsspec.core.url_to_fs(manifest.url)
        self._groups, self._event_times = manifest.row_groups, manifest.event_times
        self._footers: dict[tuple[str, int], pq.FileMetaData] = {}
        self._data = data

    def pieces(self, windows: list[Window], first: int, size: int) -> Iterator[list[EncodedRows]]:
        """The lane's rows from place `first` on, `size` at a time (the last time, what is left)."""
        pieces: list[EncodedRows] = []
        waiting = 0
        for window in windows:
            if window.first + window.rows <= first:
                continue
            rows, place = self._decode(window), max(first - window.first, 0)
            while place < window.rows:
                taken = min(size - waiting, window.rows - place)
                pieces.append(rows.slice(place, place + taken))
                place, waiting = place + taken, waiting + taken
                if waiting == size:
                    yield pieces
                    pieces, waiting = [], 0
        if pieces:
            yield pieces

    def _decode(self, window: Window) -> EncodedRows:
        tables = [self._read(span) for span in window.spans]
        source = ", ".join(dict.fromkeys(self._groups[s.row_group].file for s in window.spans))
        try:
            # One type a column over all files (int32 and int64, say): the widest.
            table = pa.concat_tables(tables, promote_options="permissive").take(window.order())
        except pa.ArrowException as error:
            raise DataError(
                f"{source}: types that do not go together: {in_one_line(error)}; write each column "
                "with one type"
            ) from None
        return encode(table, self._data, source, self._event_times)

    def _read(self, span: Span) -> pa.Table:
        """The columns read of one span, and the column that marks unreadable rows."""
        group, rows = self._groups[span.row_group], span.stop - span.start
        names = columns_read(self._data)
        try:
            table = self._read_patiently(group, names).slice(span.start, rows)
            unreadable = False
        except (*UNREADABLE, DataError) as error:
            if _may_pass(error):
                raise  # no fault of the data: the run restarts from its checkpoint
            reason = in_one_line(error)
            message = f"{group.file}, row group {group.index}: cannot be read: {reason}"
            if self._data.on_error == "fail":
                advice = "mend or remove the file (data.on_error: skip trains on without its rows)"
                raise DataError(f"{message}; {advice}") from None
            _log.warning("%s; its %d rows are left out", message, rows)
            table = pa.table({name: pa.nulls(rows) for name in names})
            unreadable = True
        return table.append_column(REJECTED, pa.repeat(pa.scalar(unreadable), rows))

    def _read_patiently(self, group: RowGroup, names: list[str]) -> pa.Table:
        """Read again after a pause where the storage, and not the file, was at fault."""
        for pause_seconds in _PAUSES_SECONDS:
            try:
                return self._read_row_group(group, names)
            except OSError as error:
                if not _may_pass(error):
                    raise
                _log.warning("%s: %s; trying again", group.file, error)
                time.sleep(pause_seconds)
        return self._read_row_group(group, names)

    def _read_row_group(self, group: RowGroup, names: list[str]) -> pa.Table:
        with self._filesystem.open(group.file, "rb") as handle:
            known = self._footers.get((group.file, handle.size))
            parquet = pq.ParquetFile(handle, metadata=known, page_checksum_verification=True)
            if known is None:
                column_families(parquet.schema_arrow, self._data, group.file)
                self._keep_footer((group.file, handle.size), parquet.metadata)
            if (
                group.index >= parquet.num_row_groups
                or parquet.metadata.row_group(group.index).num_rows != group.rows
            ):
                raise DataError("the file has changed since the run began")
            table = parquet.read_row_group(group.index, columns=names, use_threads=False)
        # Without Arrow's dictionaries and fixed sizes, tables of several files can be joined.
        table = pa.table({name: _plain(table.column(name)) for name in names})
        table.validate(full=True)  # damaged bytes often decode, to strings that are no UTF-8
        return table

    def _keep_footer(self, key: tuple[str, int], footer: pq.FileMetaData) -> None:
        """A file of many row groups would spend its time on parsing its footer for each."""
        if len(self._footers) >= _FOOTERS_KEPT:
            self._footers.pop(next(iter(self._footers)))
        self._footers[key] = footer


def _may_pass(error: BaseException) -> bool:
    """Whether the storage may answer the next time: an OSError of the system, with a number.

    Arrow raises one without a number for bytes it cannot decode.
    """
    lasting = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)
    return isinstance(error, OSError) and error.errno is not None and not lasting


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(_plain_type(column.type))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if is_list(kind):
        return pa.large_list(_plain_type(kind.value_type))
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp(kind.unit)  # the same instant, in UTC: zones may differ between files
    return pa.uint8() if pa.types.is_boolean(kind) else kind
