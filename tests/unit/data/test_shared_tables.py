"""Columns that share a table must agree in what they hold."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.schema import DataError
from tests.unit.data.click_logs import click_data

FEATURES = {
    "item": {"kind": "id", "rows": 100, "embedding_dim": 4},
    "recent": {"kind": "id", "table": "item"},
}


@pytest.mark.parametrize(
    ("recent", "sound"),
    [([[1, 2], []], True), ([["1", "2"], []], False), ([None, None], True)],
)
def test_integers_and_strings_cannot_share_a_table(
    tmp_path: Path, recent: list[object], sound: bool
) -> None:
    table = pa.table({"item": [1, 2], "recent": recent, "buy": [0, 1]})
    pq.write_table(table, tmp_path / "log.parquet")
    data = click_data(features=FEATURES)
    if sound:
        assert read_manifest(str(tmp_path), data).rows == 2
        return
    with pytest.raises(DataError, match=r"'item' and 'recent' share .* integers and strings"):
        read_manifest(str(tmp_path), data)
