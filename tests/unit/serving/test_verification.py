"""Logged probabilities are compared with the bundle's: equal, different, and what cannot be."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.cli import main
from recsys_mtl.serving import verification
from tests.unit.serving.conftest import Served


def served_log(served: Served) -> pa.Table:
    """The rows with the probabilities that training gives them."""
    log = served.log
    for task, probabilities in served.trained.probabilities(log).items():
        log = log.append_column(f"probability_{task}", pa.array(probabilities))
    return log


def changed(log: pa.Table, column: str, values: object) -> pa.Table:
    return log.set_column(log.schema.get_field_index(column), column, pa.array(values))


def verify(served: Served, log: pa.Table, folder: Path, *options: str) -> object:
    """The exit status."""
    pq.write_table(log, folder / "log.parquet", row_group_size=40)
    log_file = str(folder / "log.parquet")
    return main_status(["verify", str(served.folder), "--log", log_file, *options])


def main_status(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_the_probabilities_of_training_are_the_bundle_s(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(served, served_log(served), tmp_path) == 0
    assert "150 rows of purchase, cart: largest difference " in capsys.readouterr().out


def test_differences_are_named_by_row_and_task_over_all_row_groups(
    served: Served,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verification, "_ROWS_AT_ONCE", 32)
    log = served_log(served)
    cart = log["probability_cart"].to_numpy().copy()
    cart[[3, 120]] += [2e-4, 0.25]
    cart[70] = np.nan
    assert verify(served, changed(log, "probability_cart", cart), tmp_path) == 3
    said = capsys.readouterr().err
    assert "150 rows of purchase, cart: 3 of cart differ by more than 1e-05" in said
    file = tmp_path / "log.parquet"
    places = [said.index(f"row {row} of {file}, cart: logged") for row in (70, 120, 3)]
    assert places == sorted(places), "the largest difference comes first"
    assert "purchase: logged" not in said
    wide = ("--tolerance", "0.3")
    assert verify(served, changed(log, "probability_cart", cart), tmp_path, *wide) == 3
    cart[70] = cart[71]
    assert verify(served, changed(log, "probability_cart", cart), tmp_path, "--tolerance", "1") == 0


def test_a_feature_that_serving_computes_in_another_way_is_found(
    served: Served, tmp_path: Path
) -> None:
    log = served_log(served)
    prices = [None if price is None else 100 * price for price in log["price"].to_pylist()]
    assert verify(served, changed(log, "price", prices), tmp_path) == 3


def test_what_was_not_logged_is_not_compared(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = served_log(served).drop_columns(["probability_cart"])
    known = log["probability_purchase"].to_pylist()
    some = [p if row % 2 else None for row, p in enumerate(known)]
    assert verify(served, changed(log, "probability_purchase", some), tmp_path) == 0
    said = capsys.readouterr().out
    assert "150 rows of purchase: largest" in said
    assert "no probability of cart was logged" in said
    assert "75 logged probabilities are null" in said


def test_all_files_of_a_folder_are_compared(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, folder = served_log(served), tmp_path / "log"
    folder.mkdir()
    bad = log["probability_purchase"].to_numpy() + np.float32(0.1)
    pq.write_table(log.slice(0, 0), folder / "0.parquet")
    pq.write_table(log, folder / "1.parquet")
    pq.write_table(log.drop_columns(["probability_purchase"]), folder / "2.parquet")
    assert main_status(["verify", str(served.folder), "--log", str(folder)]) == 0
    assert "300 rows of purchase, cart: largest" in capsys.readouterr().out
    pq.write_table(changed(log, "probability_purchase", bad), folder / "3.parquet")
    assert main_status(["verify", str(served.folder), "--log", f"{folder}/*.parquet"]) == 3
    said = capsys.readouterr().err
    assert "450 rows of purchase, cart: 150 of purchase differ" in said
    assert f"of {folder}/3.parquet, purchase: logged" in said


@pytest.mark.parametrize(
    ("without", "says"),
    [
        (["probability_purchase", "probability_cart"], "has no logged probabilities; it needs"),
        (["city"], "column 'city' is missing from the rows"),
    ],
)
def test_a_log_without_what_is_needed_is_refused(
    served: Served,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    without: list[str],
    says: str,
) -> None:
    assert verify(served, served_log(served).drop_columns(without), tmp_path) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_bad_logs_are_refused(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = served_log(served)
    words = changed(log, "probability_cart", ["0.5"] * 150)
    for bad, says in (
        (log.slice(0, 0), "holds no logged probability in its 0 rows"),
        (
            changed(log, "probability_cart", [None] * 150).drop_columns(["probability_purchase"]),
            "holds no logged probability in its 150 rows",
        ),
        (words, "'probability_cart' .* must hold numbers"),
        (changed(log, "city", [7] * 150), "column 'city' holds int64"),
    ):
        assert verify(served, bad, tmp_path) == 2
        said = capsys.readouterr().err
        assert says.split(" .* ")[-1] in said, said
    (tmp_path / "log.parquet").write_text("no Parquet")
    for path, says in (
        (str(tmp_path / "log.parquet"), "cannot be read as Parquet"),
        (str(tmp_path / "nowhere.parquet"), "no Parquet file there"),
        ("nosuch://x", "cannot be listed"),
    ):
        assert main_status(["verify", str(served.folder), "--log", path]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf", "small"])
def test_a_tolerance_that_is_none_is_refused(
    tolerance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", "bundle", "--log", "log", "--tolerance", tolerance])
    assert ended.value.code == 2
    assert "--tolerance" in capsys.readouterr().err
