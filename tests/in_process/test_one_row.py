"""A log of one row, and a task without labels: it trains, and what is unknown is said."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.driver.launch import launch
from tests.in_process.demo_runs import config_of, write_demo_log


def test_one_row_trains_and_a_task_without_labels_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_demo_log(tmp_path)
    table = pq.read_table(tmp_path / "demo" / "eval").slice(0, 1)
    place = table.schema.get_field_index("cart")
    table = table.set_column(place, "cart", pa.array([None], pa.int8()))
    pq.write_table(table, tmp_path / "one.parquet")
    log = (f"data.train={tmp_path}/one.parquet", f"data.eval={tmp_path}/one.parquet")
    length = ("training.max_steps=null", "training.epochs=2")
    result = launch(config_of(tmp_path, "one", *log, *length))
    assert (result["steps"], result["rows"], result["skipped_steps"]) == (2, 2, 0)
    cart, purchase = (result["tasks"][task] for task in ("cart", "purchase"))
    assert (cart["mean_weight"], cart["labelled_steps"]) == (None, 0)
    assert (purchase["mean_weight"] > 0, purchase["labelled_steps"]) == (True, 2)
    assert all(task["auc"] is None for task in result["tasks"].values())
    assert "no AUC on data.eval" in capsys.readouterr().out
