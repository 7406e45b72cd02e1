"""What the keys of a column's values stand for."""

from collections import Counter
from collections.abc import Collection

from recsys_mtl.config import Data
from recsys_mtl.data.keys import keys_of
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.row_groups import RowGroupReader
from recsys_mtl.data.schema import UNREADABLE
from recsys_mtl.data.stream import plain


def names_of_keys(log: Manifest, data: Data, column: str, keys: Collection[int]) -> dict[int, str]:
    """Each of `keys` with its value's text; reads that column alone, until all are found."""
    reader = RowGroupReader(log, data, [column], labelled=False)
    names: dict[int, str] = {}
    for group in log.row_groups:
        if len(names) == len(keys):
            break
        try:
            values = plain(reader.read(group).column(column)).unique()
        except UNREADABLE:
            continue  # its rows are left out of every number, or the log was refused
        for key, value in zip(keys_of(values, column).tolist(), values.to_pylist(), strict=True):
            if key in keys:
                names[key] = "null" if value is None else str(value)
    texts = Counter(names.values())  # a null and the text "null", say
    return {k: name if texts[name] == 1 else f"{name} ({k:016x})" for k, name in names.items()}
