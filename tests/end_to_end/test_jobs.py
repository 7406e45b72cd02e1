"""Runs as Ray jobs, on a head that asks for a token."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pipelines import synthetic_clicks
from tests.deploy.manifests import find, rayjob_entrypoint, render

from .runs import BIN, Place

OVERLAY = "cpu-small"
MOUNTS = ("/etc/recsys-mtl-metrics", "/etc/recsys-mtl", "/runs", "/data")


def ray_job(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "ray"), "job", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def moved(text: str, folder: Path) -> str:
    """A text that names places in a pod, with all of them in `folder`."""
    return re.sub(rf"(?<![\w/.])({'|'.join(MOUNTS)})\b", rf"{folder}\1", text)


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the RayJob's pods have mounted: ConfigMap, Secret and claims."""
    folder = tmp_path_factory.mktemp("pod")
    for mount in MOUNTS:
        (folder / mount.strip("/")).mkdir(parents=True, exist_ok=True)
    for name, text in find(render(f"overlays/{OVERLAY}"), "ConfigMap")["data"].items():
        (folder / "etc/recsys-mtl" / name).write_text(moved(text, folder))
    (folder / "etc/recsys-mtl-metrics/token").write_text("of-prometheus\n")
    demo = str(folder / "data/demo")
    synthetic_clicks.main(["--out", demo, "--rows", "6000", "--seed", "1"])
    return folder


def test_the_entrypoint_of_the_rayjob_runs_as_a_ray_job(pod: Path, cluster: dict[str, str]) -> None:
    entrypoint = moved(rayjob_entrypoint(OVERLAY), pod)
    submitted = ray_job(cluster, "submit", "--", *entrypoint.split())
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    events = [json.loads(li) for li in submitted.stdout.splitlines() if li.startswith('{"time"')]
    assert {"metrics", "run", "result"} <= {event["event"] for event in events}
    result = json.loads((pod / "runs/clicks-cpu-small/result.json").read_text())
    assert (result["finished"], result["world_size"]) == (True, 2)


def test_without_the_token_a_job_is_refused(cluster: dict[str, str], tmp_path: Path) -> None:
    request = urllib.request.Request(
        f"{cluster['RAY_API_SERVER_ADDRESS']}/api/jobs/",
        data=json.dumps({"entrypoint": f"touch {tmp_path}/ran"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 401
    stranger = {k: v for k, v in cluster.items() if k != "RAY_AUTH_TOKEN"}
    stranger["RAY_AUTH_TOKEN_PATH"] = str(tmp_path / "token")
    (tmp_path / "token").write_text("0" * 32)
    submitted = ray_job(stranger, "submit", "--", f"touch {tmp_path}/ran")
    assert submitted.returncode != 0
    assert not (tmp_path / "ran").exists()


def test_a_run_whose_folder_would_vanish_with_the_job_is_refused(
    place: Place, cluster: dict[str, str]
) -> None:
    sent = place.folder / "working_dir"
    sent.mkdir()
    text = place.yaml.read_text().replace(f"{place.folder}/runs", "runs")
    (sent / "run.yaml").write_text(text)
    submitted = ray_job(
        cluster, "submit", "--working-dir", str(sent), "--", "recsys-mtl", "train", "run.yaml"
    )
    assert submitted.returncode != 0
    assert "run.storage_path is 'runs'" in submitted.stdout + submitted.stderr
