"""The logs of a sweep: a test log has no file that arms were trained or chosen on."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.config import UserError
from recsys_mtl.driver.sweep.cells import Cell, plan_cells
from recsys_mtl.driver.sweep.logs import read_logs
from tests.unit.driver.sweep.sweeps import UNIFORM
from tests.unit.run_files import write_run


def write_file(path: Path, rows: int = 40) -> None:
    """A file of its own, with rows that no other has."""
    rng = np.random.default_rng()
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = {task: (np.arange(rows) % 2).astype(np.int8) for task in ("buy", "cart")}
    items, price = rng.integers(0, 100, rows), rng.normal(size=rows)
    pq.write_table(pa.table({"item": items, "price": price, **labels}), path)


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    """data.train and data.eval of two files each, and another log; each has an empty file."""
    for name in ("train", "eval", "later"):
        for number, rows in enumerate((40, 40, 0)):
            write_file(tmp_path / name / f"{number}.parquet", rows)
    return tmp_path


def cells_on(clicks: Path, evaluation: str = "eval") -> list[Cell]:
    logs = (f"data.train={clicks}/train", f"data.eval={clicks}/{evaluation}")
    return plan_cells(
        str(write_run(clicks)), [UNIFORM], seeds=[1], overrides=logs, runs_url=f"{clicks}/runs"
    )


def test_a_log_of_other_files_judges_also_where_both_have_a_file_without_rows(clicks: Path) -> None:
    (logs,) = read_logs(cells_on(clicks), f"{clicks}/later").values()
    assert logs.test is not None
    assert (logs.test.rows, logs.train.rows) == (80, 80)


@pytest.mark.parametrize(
    ("part", "for_what"),
    [("eval", "which arms are compared on already"), ("train", "which arms are trained on")],
)
def test_a_test_log_that_is_or_has_a_part_of_another_log_is_refused(
    clicks: Path, part: str, for_what: str
) -> None:
    file = clicks / part / "1.parquet"
    (clicks / "linked").symlink_to(clicks / part)
    shutil.copy(file, clicks / "later" / "copy.parquet")
    for test, said in (
        (clicks / part, f"{clicks}/{part}/0.parquet is a file of data.{part} ({clicks}/{part})"),
        (file, f"{file} is a file of data.{part}"),
        (clicks / "linked" / "1.parquet", f"{clicks}/linked/1.parquet is a copy of {file}, a file"),
        (clicks / "later", f"{clicks}/later/copy.parquet is a copy of {file}, a file of data."),
    ):
        with pytest.raises(UserError) as refused:
            read_logs(cells_on(clicks), str(test))
        assert f"--test {test}: {said}" in str(refused.value)
        assert f"{for_what}; give a log without it" in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_test_log_around_data_eval_is_refused(clicks: Path) -> None:
    shutil.copytree(clicks / "eval", clicks / "later" / "eval")
    with pytest.raises(UserError, match=r"later/eval/0\.parquet is a file of data\.eval"):
        read_logs(cells_on(clicks, "later/eval/0.parquet"), f"{clicks}/later")


def test_a_test_log_that_is_not_there_is_refused(clicks: Path) -> None:
    with pytest.raises(UserError, match=r"^--test .*missing\.parquet: no Parquet file there; give"):
        read_logs(cells_on(clicks), f"{clicks}/missing.parquet")
