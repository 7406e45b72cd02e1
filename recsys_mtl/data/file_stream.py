"""Rows of whole files in their own order, for prediction: encoded, beside the columns to keep."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from recsys_mtl.config import Data
from recsys_mtl.data.background import Background
from recsys_mtl.data.features import EncodedFeatures, encode_features
from recsys_mtl.data.manifest import Manifest, RowGroup
from recsys_mtl.data.row_groups import RowGroupReader, may_pass
from recsys_mtl.data.schema import UNREADABLE, DataError, feature_columns, in_one_line

_ROW_GROUPS_AHEAD = 2


@dataclass(frozen=True)
class FileRows:
    """One row group of a file, or a file without rows."""

    file: str
    features: EncodedFeatures
    kept: pa.Table
    """The columns to keep, as the file has them."""
    ends_file: bool


def file_stream(
    manifest: Manifest, data: Data, files: Sequence[str], keep: Sequence[str]
) -> Background[FileRows]:
    """The row groups of `files`, file by file, read ahead on a thread; for a `with` block.

    Args:
        keep: columns that every file has.
    """
    return Background(_file_rows(manifest, data, files, keep), _ROW_GROUPS_AHEAD)


def _file_rows(
    manifest: Manifest, data: Data, files: Sequence[str], keep: Sequence[str]
) -> Iterator[FileRows]:
    columns = list(dict.fromkeys([*feature_columns(data.features), *keep]))
    reader = RowGroupReader(manifest, data, columns, labelled=False)
    groups_of: dict[str, list[RowGroup]] = {file: [] for file in files}
    for group in manifest.row_groups:
        if group.file in groups_of:
            groups_of[group.file].append(group)
    for file, groups in groups_of.items():
        tables = (
            (_read(reader, group) for group in groups) if groups else [reader.read_nothing(file)]
        )
        for place, table in enumerate(tables, start=1):
            yield FileRows(
                file=file,
                features=encode_features(table, data),
                kept=table.select(list(keep)),
                ends_file=place >= len(groups),
            )


def _read(reader: RowGroupReader, group: RowGroup) -> pa.Table:
    """One row group.

    Raises:
        DataError: it cannot be read; rows left out would not be scored, without a word.
    """
    try:
        table = reader.read(group)
        table.validate(full=True)
    except (*UNREADABLE, DataError) as error:
        if may_pass(error):
            raise
        raise DataError(
            f"{group.file}, row group {group.index}: cannot be read: {in_one_line(error)}; mend "
            "or remove the file"
        ) from None
    return table
