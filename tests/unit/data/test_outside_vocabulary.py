"""Which of a log's first rows a vocabulary has no value for."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.config import Data
from recsys_mtl.data.manifest import Manifest, read_manifest
from recsys_mtl.data.outside_vocabulary import OutsideVocabulary, outside_vocabulary
from recsys_mtl.data.schema import DataError
from tests.unit.data.click_logs import click_data


def written(folder: Path, data: Data, **columns: Any) -> Manifest:
    rows = len(next(iter(columns.values())))
    pq.write_table(pa.table(columns | {"buy": [0] * rows}), folder / "log.parquet")
    return read_manifest(str(folder / "log.parquet"), data)


def one_hot(*vocabulary: str | int, **settings: Any) -> dict[str, Any]:
    return {"kind": "one_hot", "vocabulary": vocabulary} | settings


def test_values_outside_are_counted_with_the_most_frequent_first(tmp_path: Path) -> None:
    data = click_data(
        features={
            "city": one_hot("Oslo", "Rio"),
            "colour": one_hot("red"),
            "level": one_hot(1, 2, column="tier"),
            "user": {"kind": "id", "rows": 9, "embedding_dim": 4},
        }
    )
    manifest = written(
        tmp_path,
        data,
        city=[" Rio", "Oslo", None, "Lima", "Lima", "Rio", "Quito", "Lima", "Bern", "Quito"],
        colour=pa.array(["red"] * 5 + ["blue"] * 5).dictionary_encode(),
        tier=[1, 2, None, 1, 2, 1, 2, 1, 2, 1],
        user=range(10),
    )
    assert list(outside_vocabulary(manifest, data)) == [
        OutsideVocabulary("city", 10, 7, ("Lima", "Quito", " Rio")),
        OutsideVocabulary("colour", 10, 5, ("blue",)),
    ]


def test_a_log_whose_rows_cannot_be_read_is_refused(tmp_path: Path) -> None:
    data = click_data(features={"city": one_hot("Oslo")})
    manifest = written(tmp_path, data, city=["Oslo"] * 50)
    content = bytearray((tmp_path / "log.parquet").read_bytes())
    content[4:60] = b"\xff" * 56
    (tmp_path / "log.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"row group 0: cannot be read: .*; mend or remove"):
        list(outside_vocabulary(manifest, data))
    assert list(outside_vocabulary(manifest, click_data())) == [], "nothing is read for other kinds"
