"""Without a cluster the command starts Ray on this machine."""

import json
import socket

from .runs import Place, recsys_mtl


def test_a_run_starts_its_own_ray_and_a_taken_metrics_port_does_not_stop_it(
    place: Place, cluster: dict[str, str]
) -> None:
    alone = {name: value for name, value in cluster.items() if not name.startswith("RAY_")}
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = recsys_mtl(
            alone, "train", place.yaml, "--set", "training.max_steps=12",
            "--set", f"metrics.port={port}", "--set", "method={kind: uniform}",
            "--set", "cluster.num_workers=1",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no metrics endpoint" in done.stdout
    assert str(port) in done.stdout
    result = json.loads((place.run / "result.json").read_text())
    assert result["steps"] == 12
    assert result["conflicting_steps"] is None, "the uniform sum measures no conflicts"
    assert (place.run / "traces.png").read_bytes().startswith(b"\x89PNG")
