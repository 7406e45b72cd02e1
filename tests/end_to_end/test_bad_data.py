"""A log that is damaged, a cluster that is not there: a clear sentence; never a hang."""

import subprocess

from .runs import Place, damage, recsys_mtl


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


def test_a_cluster_that_does_not_answer_is_named(place: Place, cluster: dict[str, str]) -> None:
    nowhere = cluster | {"RAY_ADDRESS": "127.0.0.1:9"}
    done = recsys_mtl(nowhere, "train", place.yaml)
    assert_one_clear_sentence(done, "127.0.0.1:9", "RAY_ADDRESS")
