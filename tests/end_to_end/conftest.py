"""A real Ray cluster for the whole session, small click logs, and the command line."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

_BIN = Path(sys.executable).parent
ROWS = 2_000
RUN = """
run: {{name: run, storage_path: {folder}/runs, seed: 5}}
data:
  train: {folder}/train
  eval: {folder}/eval
  lanes: 4
  features:
    user: {{kind: id, rows: 50, embedding_dim: 8}}
    items: {{kind: id, rows: 80, embedding_dim: 8, pooling: mean}}
    price: {{kind: dense}}
  labels: {{purchase: purchase, cart: cart, wish: wish}}
model: {{bottom_hidden_sizes: [16, 8], dropout: 0.1}}
method: {{kind: gradops, alpha: 0.5}}
optimizer: {{dense: {{kind: sgd, learning_rate: 0.1}}}}
training: {{global_batch_size: 64, epochs: 2, log_interval_steps: 10, auc_window_steps: 20}}
cluster: {{num_workers: 2, device: cpu, timeout_seconds: 60}}
"""


@dataclass(frozen=True)
class Place:
    """A folder with a log and a run's YAML."""

    folder: Path

    @property
    def yaml(self) -> Path:
        return self.folder / "run.yaml"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "run"


def click_log(rows: int, seed: int) -> pa.Table:
    """A log in which purchase and wish pull against each other."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 50, rows)
    taste = np.sin(user)
    return pa.table(
        {
            "user": user,
            "items": [rng.integers(0, 80, rng.integers(0, 4)).tolist() for _ in range(rows)],
            "price": rng.normal(size=rows),
            "purchase": (taste + rng.normal(size=rows) > 1).astype(np.int8),
            "cart": (rng.random(rows) < 0.3).astype(np.int8),
            "wish": (rng.normal(size=rows) - taste > 1).astype(np.int8),
        }
    )


def make_place(folder: Path) -> Place:
    """2,000 train rows in 2 files of 4 row groups each, 400 eval rows, and a run's YAML."""
    for part, files, rows in (("train", 2, ROWS // 2), ("eval", 1, 400)):
        (folder / part).mkdir()
        for number in range(files):
            table = click_log(rows, seed=number + len(part))
            pq.write_table(table, folder / part / f"{number}.parquet", row_group_size=250)
    (folder / "run.yaml").write_text(RUN.format(folder=folder))
    return Place(folder)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A sound log of the test's own."""
    return make_place(tmp_path)


def damage(place: Place) -> Path:
    """Overwrite the first row group of a file, 250 rows, behind a footer that stays sound."""
    file = place.folder / "train" / "1.parquet"
    content = bytearray(file.read_bytes())
    start = pq.ParquetFile(file).metadata.row_group(0).column(0).data_page_offset
    content[start : start + 200] = b"\xff" * 200
    file.write_bytes(content)
    return file


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """The environment that joins a cluster of 4 CPUs, started by `ray start` with a token."""
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    environment.pop("RAY_ADDRESS", None)
    command = [
        str(_BIN / "ray"),
        "start",
        "--head",
        "--block",
        "--port=0",
        "--num-cpus=4",
        "--include-dashboard=false",
        "--disable-usage-stats",
    ]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        found = re.search(r"--address='([\d.]+:\d+)'", line)
        if found:
            break
    else:
        pytest.fail(f"ray start ended without an address:\n{printed}")
    yield environment | {"RAY_ADDRESS": found.group(1)}
    os.killpg(process.pid, signal.SIGKILL)  # a polite end takes Ray half a minute
    process.wait(timeout=60)


def command_line(*arguments: object) -> list[str]:
    """recsys-mtl with these arguments."""
    return [str(_BIN / "recsys-mtl"), *map(str, arguments)]


def recsys_mtl(
    environment: dict[str, str], *arguments: object, timeout_seconds: float = 180
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        command_line(*arguments),
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


def scrape(url: str) -> dict[str, float]:
    """Series (name and labels as written) to value."""
    with urllib.request.urlopen(url, timeout=5) as response:
        lines = response.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {series: float(value) for series, value in pairs}


def wait_until(condition: object, *, timeout_seconds: float, what: str) -> None:
    """Poll `condition()` until it is true."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not after {timeout_seconds} s: {what}"
        time.sleep(0.2)
