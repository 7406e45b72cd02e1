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
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(served.folder), "--log", str(folder / "log.parquet"), *options])
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
    assert "150 rows of purchase, cart: beyond 1e-05 differ cart in 3 rows" in said
    places = [said.index(f"row {row}, cart: logged") for row in (70, 120, 3)]
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
    assert "75 logged probabilities are null" in said


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
        (log.slice(0, 0), "holds no rows"),
        (words, "'probability_cart' .* must hold numbers"),
        (changed(log, "city", [7] * 150), "column 'city' holds int64"),
    ):
        assert verify(served, bad, tmp_path) == 2
        said = capsys.readouterr().err
        assert says.split(" .* ")[-1] in said, said
    (tmp_path / "log.parquet").write_text("no Parquet")
    for path in ("log.parquet", "nowhere.parquet", "nosuch://x"):
        with pytest.raises(SystemExit) as ended:
            main(["verify", str(served.folder), "--log", str(tmp_path / path)])
        assert ended.value.code == 2
        assert "cannot be read as Parquet" in capsys.readouterr().err


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf", "small"])
def test_a_tolerance_that_is_none_is_refused(
    tolerance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", "bundle", "--log", "log", "--tolerance", tolerance])
    assert ended.value.code == 2
    assert "--tolerance" in capsys.readouterr().err
