"""A Prometheus that watches runs, and a run that it watches while processes are killed."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .runs import (
    Place,
    arguments,
    free_port,
    processes_titled,
    scrape,
    scrape_text,
    started,
    wait_until,
)

DEPLOYED = Path(__file__).parents[2] / "deploy" / "prometheus"
STEPS_PER_EPOCH = 32  # of 64 rows: each of the 4 lanes of 500 rows takes 16 a step
STEPS = 10 * STEPS_PER_EPOCH


@dataclass(frozen=True)
class Prometheus:
    """A server, and where runs register themselves."""

    url: str
    discovery: Path

    def ask(self, promql: str, at: float | None = None) -> list[dict[str, Any]]:
        """The series of an instant query, each with `metric` and `value`."""
        when = {} if at is None else {"time": f"{at:.3f}"}
        return list(self._get("query", {"query": promql} | when)["result"])

    def ask_range(self, promql: str, start: float, end: float) -> list[dict[str, Any]]:
        """The series of a query at every second in between, each with `metric` and `values`."""
        when = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": "1"}
        return list(self._get("query_range", {"query": promql} | when)["result"])

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with its health."""
        return [rule for group in self._get("rules", {})["groups"] for rule in group["rules"]]

    def _get(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        query = urllib.parse.urlencode(asked)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
            return dict(json.loads(answer.read())["data"])


@contextmanager
def started_prometheus(folder: Path) -> Iterator[Prometheus]:
    """The shipped configuration, but with a folder of its own and a look every second."""
    program = shutil.which("prometheus")
    if program is None:
        message = "prometheus is not installed (Debian: apt install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    shipped = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    shipped["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    shipped["rule_files"] = [str(DEPLOYED / name) for name in shipped["rule_files"]]
    (job,) = shipped["scrape_configs"]
    (found_by,) = job["file_sd_configs"]
    found_by |= {"files": [f"{folder}/runs/*.json"], "refresh_interval": "1s"}
    (folder / "runs").mkdir()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(shipped))
    port = free_port()
    process = subprocess.Popen(
        [
            program,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
        start_new_session=True,
    )
    server = Prometheus(f"http://127.0.0.1:{port}", folder / "runs")
    try:
        wait_until(lambda: _ready(server), timeout_seconds=60, what="Prometheus's answer")
        yield server
    finally:
        process.kill()
        process.wait(timeout=30)


def _ready(server: Prometheus) -> bool:
    try:
        return bool(server.ask("vector(1)"))
    except OSError:
        return False


@dataclass(frozen=True)
class KilledRun:
    """What was seen of a run that lost its exporter, and then a worker."""

    place: Place
    name: str
    status: int
    """The command's exit status."""
    printed: str
    started_at: float
    ended_at: float
    """Unix seconds."""
    page: str
    """Its metrics page after the kills."""
    pages: list[dict[str, float]]
    """All pages that were read after the kills."""


def train_and_kill(place: Place, cluster: dict[str, str], prometheus: Prometheus) -> KilledRun:
    """Kill the exporter after the first checkpoint; when it is back, kill a worker."""
    name, started_at = "killed", time.time()
    overrides = (
        f"training.max_steps={STEPS}",
        "training.checkpoint_interval_steps=60",
        "training.evaluation_interval_steps=60",
        "training.log_interval_steps=5",
        f"metrics.discovery_folder={prometheus.discovery}",
        "metrics.linger_seconds=30",
        "recon={threshold: 0, search_share: 1}",  # so that every panel has something to show
    )
    process, printed = started(cluster, *arguments(place, name, *overrides), until="metrics")
    url = json.loads(printed.splitlines()[-1])["url"]
    # Ray Train's own record of committed checkpoints; the run is past step 60 by then.
    committed = place.folder / "runs" / name / "checkpoint_manager_snapshot.json"
    wait_until(committed.exists, timeout_seconds=120, what="a committed checkpoint")
    seen = [scrape(url)]
    for title in ("ray::RunExporter", "ray::RayTrainWorker"):
        os.kill(processes_titled(title, cluster)[0], signal.SIGKILL)
        wait_until(
            lambda: _trains(url, name), timeout_seconds=60, what=f"a page after {title}'s end"
        )
    page = scrape_text(url)
    # Not to the very end: whoever looks then is taken for Prometheus, and not waited for again.
    steps = f'recsys_mtl_steps_total{{run="{name}"}}'
    while process.poll() is None and seen[-1].get(steps) != STEPS:
        try:
            seen.append(scrape(url))
        except OSError:
            break  # the run has ended, and its endpoint with it
        time.sleep(0.2)
    printed += "".join(process.communicate(timeout=180))
    return KilledRun(place, name, process.returncode, printed, started_at, time.time(), page, seen)


def _trains(url: str, run: str) -> bool:
    try:
        return f'recsys_mtl_rows_total{{run="{run}"}}' in scrape(url)
    except OSError:
        return False
