"""A sweep on a cluster of 4 CPUs, whose cells take all of them."""

import json

import pytest

from .runs import Place, recsys_mtl


def test_cells_that_each_take_the_whole_cluster_train_one_after_another(
    place: Place, cluster: dict[str, str]
) -> None:
    wide = {"cluster.num_workers": 2, "cluster.cpus_per_worker": 2, "training.max_steps": 10}
    options = [word for name, value in wide.items() for word in ("--for-all", f"{name}={value}")]
    command = ["sweep", place.yaml, "--set", "method.alpha=-1,1", "--out", place.folder / "out"]
    done = recsys_mtl(cluster, *command, *options)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(e["cell"], e["state"]) for e in events if e["event"] == "cell"] == [
        ("alpha_-1-seed5", "started"),
        ("alpha_-1-seed5", "finished"),
        ("alpha_1-seed5", "started"),
        ("alpha_1-seed5", "finished"),
    ]
    assert events[-1]["url"] == str(place.folder / "out")
    record = json.loads((place.folder / "out" / "sweep.json").read_text())
    for cell in record["cells"]:
        assert cell["core_hours"] == pytest.approx(4 * cell["seconds"] / 3600)
        result = json.loads((place.folder / "out/runs" / cell["name"] / "result.json").read_text())
        assert (result["world_size"], result["steps"]) == (2, 10)
