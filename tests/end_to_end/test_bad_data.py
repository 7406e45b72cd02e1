"""Logs that are damaged, tiny or one-sided: a clear sentence, or correct training; never a hang."""

import json
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq

from .runs import Place, click_log, damage, recsys_mtl


def assert_one_clear_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_a_damaged_row_group_ends_the_run_with_the_files_name(
    place: Place, cluster: dict[str, str]
) -> None:
    file = damage(place)
    done = recsys_mtl(cluster, "train", place.yaml)
    assert_one_clear_sentence(done, str(file), "row group 0", "data.on_error: skip")


def test_one_row_trains_on_two_workers_and_a_task_without_labels_is_left_out(
    place: Place, cluster: dict[str, str]
) -> None:
    table = click_log(1, seed=1)
    unknown = pa.array([None], pa.int8())
    table = table.set_column(table.schema.get_field_index("cart"), "cart", unknown)
    for file in (place.folder / "train").iterdir():
        file.unlink()
    pq.write_table(table, place.folder / "train" / "one.parquet")
    done = recsys_mtl(
        cluster, "train", place.yaml, "--set", f"data.eval={place.folder}/train",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((place.run / "result.json").read_text())
    assert (result["steps"], result["rows"], result["skipped_steps"]) == (2, 2, 0)
    cart, purchase = (result["tasks"][task] for task in ("cart", "purchase"))
    assert (cart["mean_weight"], cart["labelled_steps"]) == (None, 0)
    assert (purchase["mean_weight"] > 0, purchase["labelled_steps"]) == (True, 2)
    assert all(task["auc"] is None for task in result["tasks"].values())
    assert "no AUC on data.eval" in done.stdout


def test_a_cluster_that_does_not_answer_is_named(place: Place, cluster: dict[str, str]) -> None:
    nowhere = cluster | {"RAY_ADDRESS": "127.0.0.1:9"}
    done = recsys_mtl(nowhere, "train", place.yaml)
    assert_one_clear_sentence(done, "127.0.0.1:9", "RAY_ADDRESS")
