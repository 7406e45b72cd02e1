"""The application of deploy/serve, started as its README says, answers as the bundle's scorer."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_mtl.distributed.alone import alone
from recsys_mtl.driver.export import export_run
from recsys_mtl.serving import Scorer
from tests.unit.data.click_logs import fresh_generator
from tests.unit.serving.served import log_rows, train

from .monitored import KilledRun
from .runs import BIN, free_port, wait_until

APPLICATION = Path(__file__).parents[2] / "deploy" / "serve"


@dataclass(frozen=True)
class Server:
    """A server of a bundle, and the bundle in this process."""

    url: str
    scorer: Scorer

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def score(self, rows: object) -> tuple[int, Any]:
        return self.ask("/score", json.dumps(rows).encode())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("serving"), free_port()
    with alone("cpu", num_threads=1, timeout_seconds=60):
        trained = train(folder, log_rows(100, fresh_generator()))
        export_run(trained.url, str(folder / "bundle"))
    shipped = (APPLICATION / "serve.yaml").read_text()
    own, places = re.subn(r"/models/clicks|0\.0\.0\.0|8000", lambda found: {
        "/models/clicks": str(folder / "bundle"), "0.0.0.0": "127.0.0.1", "8000": str(port)
    }[found[0]], shipped)  # fmt: skip
    assert places == 3
    (folder / "serve.yaml").write_text(own)
    environment = {name: v for name, v in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_ADDRESS": "local", "RAY_AUTH_MODE": "disabled"}
    process = subprocess.Popen(
        [str(BIN / "serve"), "run", str(folder / "serve.yaml")],
        env=environment | {"PYTHONPATH": str(APPLICATION)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_healthy(url), timeout_seconds=120, what="the server's health")
        yield Server(url, Scorer.load(folder / "bundle"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Ray's own processes end with it
        process.wait(timeout=60)


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


WITHOUT_RAY = """
import json, sys
sys.modules["ray"] = None  # from now on, importing it raises
from recsys_mtl.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as ended:
        if ended.code:
            raise
"""


def without_ray(*commands: list[object]) -> str:
    """What several commands print, one after the other, where Ray is not installed."""
    arguments = json.dumps([[str(argument) for argument in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_run_of_two_ray_workers_is_exported_without_ray_and_scores_as_predict_does(
    killed_run: KilledRun, tmp_path: Path
) -> None:
    run, log = f"{killed_run.place.runs}/{killed_run.name}", killed_run.place.folder / "eval"
    kept = [part for column in ("user", "items", "price") for part in ("--keep", column)]
    bundle, out, here = tmp_path / "bundle", tmp_path / "out", ("--set", "cluster.num_workers=0")
    said = without_ray(
        ["export", run, "--out", bundle],
        ["predict", run, "--data", log, "--out", out, *here, *kept],
        ["verify", bundle, "--log", out, "--tolerance", "1e-6"],
    )
    assert "400 rows of purchase, cart, wish: largest difference" in said


def test_it_says_which_run_it_serves(server: Server) -> None:
    known = {"run": "served", "step": 7, "tasks": ["purchase", "cart"]}
    assert server.ask("/health") == (200, known)


def test_requests_at_once_have_the_scores_of_the_bundle(server: Server) -> None:
    rng = fresh_generator()
    requests = [log_rows(int(rows), rng).to_pylist() for rows in rng.integers(1, 30, 24)]
    with ThreadPoolExecutor(8) as pool:
        for rows, (status, found) in zip(requests, pool.map(server.score, requests), strict=True):
            assert status == 200
            for task, expected in server.scorer.score(rows).items():
                np.testing.assert_allclose(found[task], expected, rtol=0, atol=1e-6)
    assert server.score([]) == (200, {"purchase": [], "cart": []})


def test_what_cannot_be_scored_is_refused_with_the_sentence(server: Server) -> None:
    for rows, says in (
        ([{"city": 7}], "column 'city' holds int64, but strings in the log"),
        ([{"user": 1}, 2], "row 1 is a int; give one dict per row"),
        ({"user": 1}, "rows are a dict; give"),
        ([{"user": 2**65}], "an integer beyond 64 bits"),
    ):
        status, answer = server.score(rows)
        assert status == 422
        assert says in answer["detail"]
    for body in (b"[{", b"\xff", b""):
        status, answer = server.ask("/score", body)
        assert status == 400
        assert answer["detail"].startswith("the body is no JSON (")
    assert server.ask("/score")[0] == 405
    assert server.ask("/elsewhere")[0] == 404
