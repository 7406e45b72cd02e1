"""The keys of groups: equal values of a column have one, whatever file and type they are in."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.data.key_names import names_of_keys
from recsys_mtl.data.keys import keys_of
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.schema import DataError
from tests.unit.data.click_logs import click_data, clicks

NUMBERS = [0, 7, -3, None, 2**40]


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.decimal128(20, 2)])
def test_a_number_has_one_key_in_every_width(kind: pa.DataType) -> None:
    if pa.types.is_decimal(kind):
        kind = pa.float64()  # as a log is read
    keys = keys_of(pa.array(NUMBERS, kind), "user")
    assert keys.tolist() == keys_of(pa.array(NUMBERS, pa.int64()), "user").tolist()
    assert len(set(keys.tolist())) == len(NUMBERS)


def test_strings_have_one_key_as_strings_and_in_dictionaries() -> None:
    words = pa.array(["a", None, "b", "a"])
    keys = keys_of(words, "place").tolist()
    assert keys[0] == keys[3] != keys[2]
    for other in (words.dictionary_encode(), words.cast(pa.large_string())):
        assert keys_of(other, "place").tolist() == keys


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_time_has_one_key_in_every_unit(unit: str) -> None:
    times = pa.array([0, 1_700_000_000, None], pa.timestamp("s"))
    wanted = keys_of(times, "at").tolist()
    assert keys_of(times.cast(pa.timestamp(unit)), "at").tolist() == wanted


def test_a_null_and_its_text_are_two_slices(tmp_path: Path) -> None:
    table = clicks(0, 3).append_column("place", pa.array(["null", None, "x"]))
    pq.write_table(table, tmp_path / "log.parquet")
    data = click_data()
    log = read_manifest(str(tmp_path), data, keys={"place": "--slices"})
    keys = keys_of(table["place"].combine_chunks(), "place").tolist()
    names = names_of_keys(log, data, "place", set(keys))
    assert len(set(names.values())) == 3
    assert names[keys[2]] == "x"


def test_files_that_hold_other_kinds_of_values_are_refused(tmp_path: Path) -> None:
    for part, values in enumerate(([1, 2], ["1", "2"])):
        table = clicks(0, 2).append_column("place", pa.array(values))
        pq.write_table(table, tmp_path / f"{part}.parquet")
    with pytest.raises(DataError, match=r"'place' \(--slices\) holds type string .* but number"):
        read_manifest(str(tmp_path), click_data(), keys={"place": "--slices"})


def test_lists_are_refused_before_anything_is_scored(tmp_path: Path) -> None:
    pq.write_table(clicks(0, 4), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"--group-by: column 'words' has type list"):
        read_manifest(str(tmp_path), click_data(), keys={"words": "--group-by"})
