"""Batches from any step on, decoded on a background thread."""

import logging
from collections.abc import Iterator, Sequence

import pyarrow as pa

from recsys_mtl.config import Data
from recsys_mtl.data.background import Background
from recsys_mtl.data.batch import ClickBatch, assemble
from recsys_mtl.data.features import REJECTED, EncodedRows, encode
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.plan import Plan, Span, Window
from recsys_mtl.data.row_groups import RowGroupReader, may_pass
from recsys_mtl.data.schema import UNREADABLE, DataError, columns_read, in_one_line, is_list

_log = logging.getLogger(__name__)


class BatchStream(Background[ClickBatch]):
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
        key_columns: Sequence[str] = (),
    ) -> None:
        """Prepare to read.

        Args:
            key_columns: any columns of the log, whose values the batches carry as keys.
        """
        self._reader = _LaneReader(manifest, data, key_columns)
        self._num_keys = len(key_columns)
        self._plan, self._data = plan, data
        self._lanes = plan.lanes_of_worker(rank, world_size)
        self._steps = range(first_step, last_step)
        super().__init__(self._batches(), data.prefetch_batches)

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
            yield assemble(
                step, [next(lane, []) for lane in lanes], size, self._data, self._num_keys
            )


class _LaneReader:
    """Decodes the windows of lanes."""

    def __init__(self, manifest: Manifest, data: Data, key_columns: Sequence[str]) -> None:
        self._key_columns = tuple(key_columns)
        self._names = list(dict.fromkeys([*columns_read(data), *key_columns]))
        self._groups, self._event_times = manifest.row_groups, manifest.event_times
        self._row_groups = RowGroupReader(manifest, data, self._names)
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
        return encode(table, self._data, source, self._event_times, self._key_columns)

    def _read(self, span: Span) -> pa.Table:
        """The columns read of one span, and the column that marks unreadable rows."""
        group, rows = self._groups[span.row_group], span.stop - span.start
        try:
            table = self._checked(self._row_groups.read(group)).slice(span.start, rows)
            unreadable = False
        except (*UNREADABLE, DataError) as error:
            if may_pass(error):
                raise  # no fault of the data: the run restarts from its checkpoint
            reason = in_one_line(error)
            message = f"{group.file}, row group {group.index}: cannot be read: {reason}"
            if self._data.on_error == "fail":
                advice = "mend or remove the file (data.on_error: skip trains on without its rows)"
                raise DataError(f"{message}; {advice}") from None
            _log.warning("%s; its %d rows are left out", message, rows)
            table = pa.table({name: pa.nulls(rows) for name in self._names})
            unreadable = True
        return table.append_column(REJECTED, pa.repeat(pa.scalar(unreadable), rows))

    def _checked(self, table: pa.Table) -> pa.Table:
        """The table without Arrow's dictionaries and fixed sizes: those of several files join."""
        table = pa.table({name: plain(table.column(name)) for name in self._names})
        table.validate(full=True)  # damaged bytes often decode, to strings that are no UTF-8
        return table


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values in a type that joins with that of other files."""
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
