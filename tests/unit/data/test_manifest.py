"""What is listed as a click log, and what is refused before training."""

import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.schema import DataError
from tests.unit.data.click_logs import click_data, clicks, write_groups, write_log

DATA = click_data()


def refusal(url: str | Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_manifest(str(url), click_data(**settings))
    message = str(caught.value)
    assert "\n" not in message
    return message


def with_column(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def names(url: str | Path) -> list[str]:
    return [Path(file).name for file in read_manifest(str(url), DATA).files]


def test_a_folder_is_listed_by_file_and_row_group(tmp_path: Path) -> None:
    manifest = read_manifest(write_log(tmp_path, [[3, 1], [2]]), DATA)
    found = [(Path(g.file).name, g.index, g.rows) for g in manifest.row_groups]
    assert found == [
        ("part-0.parquet", 0, 3),
        ("part-0.parquet", 1, 1),
        ("part-1.parquet", 0, 2),
    ]
    assert manifest.rows == 6


def test_a_file_is_a_log_whatever_its_name(tmp_path: Path) -> None:
    write_log(tmp_path, [[3], [2]])
    assert read_manifest(str(tmp_path / "part-1.parquet"), DATA).rows == 2
    shutil.move(tmp_path / "part-1.parquet", tmp_path / "_clicks")
    assert read_manifest(str(tmp_path / "_clicks"), DATA).rows == 2


def test_a_glob_takes_the_files_that_match(tmp_path: Path) -> None:
    write_log(tmp_path, [[1], [2], [3]])
    assert names(tmp_path / "part-[12].*") == ["part-1.parquet", "part-2.parquet"]
    assert names(tmp_path / "part-?.parquet") == [f"part-{i}.parquet" for i in range(3)]


def test_a_glob_below_a_hidden_folder_finds_its_files(tmp_path: Path) -> None:
    write_log(tmp_path / ".cache" / "log", [[1], [2]])
    assert len(names(tmp_path / ".cache" / "log" / "*.parquet")) == 2
    assert len(names(tmp_path / ".cache" / "log")) == 2


def test_a_folder_with_a_bracket_in_its_name_is_no_glob(tmp_path: Path) -> None:
    assert names(write_log(tmp_path / "log[1]", [[1]])) == ["part-0.parquet"]


def test_nested_folders_belong_to_the_log(tmp_path: Path) -> None:
    write_log(tmp_path / "day=2", [[1]])
    write_log(tmp_path / "day=1" / "hour=3", [[2]])
    groups = read_manifest(str(tmp_path), DATA).row_groups
    assert [Path(g.file).parent.name for g in groups] == ["hour=3", "day=2"]


def test_what_writers_leave_beside_the_data_is_ignored(tmp_path: Path) -> None:
    write_log(tmp_path, [[2]])
    write_log(tmp_path / "_temporary" / "0", [[1]])
    write_log(tmp_path / ".staging", [[1]])
    for name in ("_metadata.parquet", ".part-0.parquet", "_SUCCESS", "part-0.parquet.crc", "a.txt"):
        (tmp_path / name).write_bytes(b"no Parquet")
    assert names(tmp_path) == ["part-0.parquet"]
    assert names(tmp_path / "*.parquet") == ["part-0.parquet"]


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    write_log(tmp_path / "real", [[2]])
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "link.parquet").symlink_to(tmp_path / "real" / "part-0.parquet")
    assert read_manifest(str(tmp_path / "log"), DATA).rows == 2


def test_empty_row_groups_are_left_out(tmp_path: Path) -> None:
    manifest = read_manifest(write_log(tmp_path, [[0, 2, 0, 1], [0]]), DATA)
    assert [(g.index, g.rows) for g in manifest.row_groups] == [(1, 2), (3, 1)]
    assert len(manifest.files) == 1


@pytest.mark.parametrize("place", ["nothing", "nothing/*.parquet", "empty", "empty/a["])
def test_a_place_without_files_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    message = refusal(tmp_path / place)
    assert message.startswith(f"{tmp_path / place}: no Parquet file there; give ")


def test_an_unknown_protocol_is_refused() -> None:
    assert refusal("foo://bucket/log").startswith("foo://bucket/log cannot be listed: ")


def test_a_log_without_rows_is_refused(tmp_path: Path) -> None:
    url = write_log(tmp_path, [[0], [0, 0]])
    assert refusal(url) == f"{url} holds no rows in 2 file(s); give a log with at least one"


def test_a_missing_column_is_refused_with_the_columns_there(tmp_path: Path) -> None:
    write_log(tmp_path, [[1], [1]])
    pq.write_table(clicks(0, 1).drop_columns("price"), tmp_path / "part-1.parquet")
    assert refusal(tmp_path) == (
        f"column 'price' (data.features.price) is missing in {tmp_path}/part-1.parquet; "
        "the file has: row, words, buy"
    )
    assert "(data.labels.wish) is missing" in refusal(tmp_path, labels={"wish": "fav"})


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    table = clicks(0, 1)
    pq.write_table(table.append_column("price", table["price"]), tmp_path / "a.parquet")
    assert "column 'price' (data.features.price) stands twice" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "allowed"),
    [
        ("row", pa.array([1.5]), "integers, strings or lists of them"),
        ("row", pa.array([True]), "integers, strings or lists of them"),
        ("words", pa.array([[["a"]]]), "integers, strings or lists of them"),
        ("words", pa.array([{"a": 1}]), "integers, strings or lists of them"),
        ("words", pa.array([b"a"]), "integers, strings or lists of them"),
        ("price", pa.array(["1.5"]), "numbers or booleans"),
        ("price", pa.array([[1.5]]), "numbers or booleans"),
        ("buy", pa.array(["1"]), "numbers or booleans"),
    ],
)
def test_a_mistyped_column_is_refused(
    tmp_path: Path, column: str, values: pa.Array, allowed: str
) -> None:
    pq.write_table(with_column(clicks(0, 1), column, values), tmp_path / "a.parquet")
    message = refusal(tmp_path)
    assert message.startswith(f"column '{column}' (data.")
    assert f"a.parquet has type {str(values.type).partition('<')[0]}" in message
    assert message.endswith(f"; it must hold {allowed}")


@pytest.mark.parametrize(
    ("first", "second", "families"),
    [
        (pa.array([1]), pa.array(["1"]), ("string", "integer")),
        (pa.array([1]), pa.array([1], pa.uint64()), ("uint64", "integer")),
        (pa.array([1]), pa.array([[1]]), ("list of integer", "integer")),
        (pa.array([["a"]]), pa.array([[1]]), ("list of integer", "list of string")),
    ],
)
def test_types_that_would_give_one_value_two_ids_are_refused(
    tmp_path: Path, first: pa.Array, second: pa.Array, families: tuple[str, str]
) -> None:
    # The second file says nothing about the type, and must not hide the first from the third.
    for place, column in enumerate((first, pa.nulls(1), second)):
        table = with_column(clicks(0, 1), "row", column)
        pq.write_table(table, tmp_path / f"{place}.parquet")
    assert refusal(tmp_path) == (
        f"column 'row' (data.features.row) holds type {families[0]} in {tmp_path}/2.parquet but "
        f"{families[1]} in {tmp_path}/0.parquet; write it with one type"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1], pa.int32()), pa.array([1], pa.uint8())),
        (pa.array(["a"]), pa.array(["a"], pa.large_string())),
        (pa.array(["a"]), pa.array(["a"]).dictionary_encode()),
        (pa.array([["a"]]), pa.array([[]], pa.list_(pa.null()))),
        (pa.array([[1]]), pa.array([[1, 2]], pa.list_(pa.int32(), 2))),
    ],
)
def test_types_that_give_one_value_one_id_go_together(
    tmp_path: Path, first: pa.Array, second: pa.Array
) -> None:
    for place, column in enumerate((first, second)):
        table = with_column(clicks(0, 1), "row", column)
        pq.write_table(table, tmp_path / f"{place}.parquet")
    assert read_manifest(str(tmp_path), DATA).rows == 2


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    write_log(tmp_path, [[5], [5]])
    file = tmp_path / "part-1.parquet"
    whole = file.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    zeroed = whole[: -8 - footer] + bytes(footer) + whole[-8:]
    damaged_name = whole[: -8 - footer] + whole[-8 - footer :].replace(b"price", b"pr\xffce")
    for content in (b"", b"no Parquet", whole[:-20], zeroed, damaged_name):
        file.write_bytes(content)
        message = refusal(tmp_path)
        assert message.startswith(f"{file} cannot be read as Parquet: ")
        assert message.endswith("; mend or remove it")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([0, 2], pa.int8()), "2"),
        (pa.array([-1, 1], pa.int64()), "-1"),
        (pa.array([0.5, 1.0]), "0.5"),
    ],
)
def test_a_label_outside_0_and_1_is_refused_by_its_statistics(
    tmp_path: Path, values: pa.Array, said: str
) -> None:
    groups = [clicks(0, 2), with_column(clicks(2, 2), "buy", values)]
    write_groups(
        tmp_path / "a.parquet", [with_column(g, "buy", g["buy"].cast(values.type)) for g in groups]
    )
    assert refusal(tmp_path) == (
        f"label 'buy' (data.labels.purchase) has the value {said} in {tmp_path}/a.parquet, row "
        "group 1; a label is 0, 1 or null (data.on_error: skip leaves such rows out)"
    )
    assert read_manifest(str(tmp_path), click_data(on_error="skip")).rows == 4


@pytest.mark.parametrize(
    "values",
    [
        pa.array([True, False]),
        pa.array([0.0, float("nan")]),
        pa.array([1, None], pa.uint8()),
        pa.nulls(2),
        pa.array([0, 1]).cast(pa.decimal128(19, 0)),
        pa.array(np.array([0, 1], np.float16)),
    ],
)
def test_labels_of_every_numeric_type_pass(tmp_path: Path, values: pa.Array) -> None:
    pq.write_table(with_column(clicks(0, 2), "buy", values), tmp_path / "a.parquet")
    assert read_manifest(str(tmp_path), DATA).rows == 2


@pytest.mark.parametrize("files", [[[3]], [[3, 1], [2]]])
def test_a_moved_log_keeps_its_digest(tmp_path: Path, files: list[list[int]]) -> None:
    write_log(tmp_path / "old" / "log" / "day=1", files)
    before = read_manifest(str(tmp_path / "old" / "log"), DATA).digest
    shutil.move(tmp_path / "old" / "log", tmp_path / "renamed")
    assert read_manifest(str(tmp_path / "renamed"), DATA).digest == before
    assert read_manifest(str(tmp_path / "renamed" / "day=1" / "*.parquet"), DATA).digest == before


def test_a_log_with_other_rows_has_another_digest(tmp_path: Path) -> None:
    digests = [read_manifest(write_log(tmp_path / "log", [[3, 1], [2]]), DATA).digest]
    dearer = with_column(clicks(4, 2), "price", pa.array([2.0, 99.0], pa.float32()))
    for second_file in (
        clicks(4, 3),
        dearer,
        clicks(4, 2).select(["words", "row", "price", "buy"]),
    ):
        pq.write_table(second_file, tmp_path / "log" / "part-1.parquet")
        digests.append(read_manifest(str(tmp_path / "log"), DATA).digest)
    write_log(tmp_path / "log", [[1, 3], [2]])
    digests.append(read_manifest(str(tmp_path / "log"), DATA).digest)
    write_log(tmp_path / "log", [[3, 1], [2]])
    shutil.move(tmp_path / "log" / "part-0.parquet", tmp_path / "log" / "part-2.parquet")
    digests.append(read_manifest(str(tmp_path / "log"), DATA).digest)
    assert len(set(digests)) == 6


def test_a_log_may_lie_on_any_file_system() -> None:
    filesystem = fsspec.filesystem("memory")
    try:
        with filesystem.open("/clicks/a.parquet", "wb") as handle:
            pq.write_table(clicks(0, 3), handle)
        assert read_manifest("memory://clicks", DATA).rows == 3
        assert read_manifest("memory://clicks/*.parquet", DATA).rows == 3
    finally:
        filesystem.rm("/clicks", recursive=True)
