"""A table lies in memory once, however many processes serve it, and its checksum costs none."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from recsys_mtl.distributed.alone import alone
from recsys_mtl.driver.export import export_run
from tests.unit.data.click_logs import fresh_generator
from tests.unit.serving.served import log_rows, train

ROWS, DIM = 2_000_000, 16
PROGRAM = Path(__file__).with_name("server_process.py")


def export_table(folder: Path, rows: int) -> Path:
    """A bundle whose only input is a table of so many rows."""
    features = f"data.features={{item: {{kind: id, rows: {rows}, embedding_dim: {DIM}}}}}"
    with alone("cpu", num_threads=1, timeout_seconds=60):
        trained = train(folder, log_rows(20, fresh_generator()), features)
        export_run(trained.url, str(folder / "bundle"))
    return folder / "bundle"


@contextmanager
def server(small: Path, bundle: Path, rows: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(PROGRAM), str(small), str(bundle), str(rows)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def numbers(stream: IO[str] | None) -> dict[str, int]:
    assert stream is not None
    return dict(json.loads(stream.readline()))


def measure(folder: Path, rows: int) -> list[dict[str, int]]:
    """What two processes at once say, after both have read every row."""
    small, bundle = export_table(folder / "small", 10), export_table(folder / "large", rows)
    with server(small, bundle, rows) as first, server(small, bundle, rows) as second:
        for process in (first, second):
            numbers(process.stdout)
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("now\n")
            process.stdin.flush()
        return [numbers(process.stdout) for process in (first, second)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_processes_share_a_table_that_each_holds_once(tmp_path: Path) -> None:
    table_bytes = ROWS * DIM * 4
    for found in measure(tmp_path, ROWS):
        print(found)
        assert found["resident"] == pytest.approx(table_bytes, rel=0.01), "every row was read"
        assert found["growth"] < 1.1 * table_bytes
        assert found["share"] == pytest.approx(table_bytes / 2, rel=0.01)
        assert found["own"] == 0
