"""Small click logs, and the command line as a user has it."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BIN = Path(sys.executable).parent
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
    def runs(self) -> str:
        """Where its runs are kept, for fsspec."""
        return f"{self.folder}/runs"

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


def damage(place: Place) -> Path:
    """Overwrite the first row group of a file, 250 rows, behind a footer that stays sound."""
    file = place.folder / "train" / "1.parquet"
    content = bytearray(file.read_bytes())
    start = pq.ParquetFile(file).metadata.row_group(0).column(0).data_page_offset
    content[start : start + 200] = b"\xff" * 200
    file.write_bytes(content)
    return file


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_titled(title: str, environment: dict[str, str]) -> list[int]:
    """Process ids whose title begins so, of this cluster, known by its token, and no others."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            variables = (folder / "environ").read_bytes()
        except OSError:
            continue
        ours = environment["RAY_AUTH_TOKEN"].encode() in variables
        if command.startswith(title.encode()) and ours:
            found.append(int(folder.name))
    return found


def command_line(*arguments: object) -> list[str]:
    """recsys-mtl with these arguments."""
    return [str(BIN / "recsys-mtl"), *map(str, arguments)]


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


def scrape_text(url: str) -> str:
    """The page as it is served."""
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


def scrape(url: str) -> dict[str, float]:
    """Series (name and labels as written) to value."""
    lines = scrape_text(url).splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {series: float(value) for series, value in pairs}


def answers(url: str) -> bool:
    """Whether a server does, be it with an error."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def wait_until(condition: object, *, timeout_seconds: float, what: str) -> None:
    """Poll `condition()` until it is true."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not after {timeout_seconds} s: {what}"
        time.sleep(0.2)


def arguments(place: Place, run: str, *overrides: str) -> list[object]:
    """To train a run of this name on the log of `place`."""
    sets = (f"run.name={run}", "data.on_error=skip", "training.epochs=100", *overrides)
    return ["train", place.yaml, *(part for o in sets for part in ("--set", o))]


def started(
    environment: dict[str, str], *arguments: object, until: str
) -> tuple[subprocess.Popen[str], str]:
    """The command line at work, and what it printed up to the first event of that name."""
    process = subprocess.Popen(
        command_line(*arguments),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if json.loads(line)["event"] == until:
            return process, printed
    raise AssertionError(f"no event {until}: {printed}{process.communicate()[1]}")
