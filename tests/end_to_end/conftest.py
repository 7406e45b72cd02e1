"""A real Ray cluster, a real Prometheus, and runs that several tests look at."""

import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from .monitored import KilledRun, Prometheus, started_prometheus, train_and_kill
from .runs import BIN, Place, answers, damage, free_port, make_place, wait_until


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A sound log of the test's own."""
    return make_place(tmp_path)


@pytest.fixture(scope="session")
def s3() -> Iterator[fsspec.AbstractFileSystem]:
    """An S3 server with the buckets `clicks` and `runs`, which every process knows from now on."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", url)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_ACCESS_KEY_ID", "tests")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        wait_until(lambda: answers(url), timeout_seconds=60, what="the S3 server's answer")
        filesystem = fsspec.filesystem("s3", use_listings_cache=False)
        for bucket in ("clicks", "runs"):
            filesystem.mkdir(bucket)
        yield filesystem
    process.kill()
    process.wait(timeout=30)


@pytest.fixture(scope="session")
def cluster(s3: fsspec.AbstractFileSystem) -> Iterator[dict[str, str]]:
    """The environment that joins a cluster of 4 CPUs, started by `ray start` with a token.

    RAY_API_SERVER_ADDRESS is set for `ray job`, too.
    """
    environment = os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",  # jobs find recsys-mtl there
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
    }
    environment.pop("RAY_ADDRESS", None)
    command = [
        str(BIN / "ray"),
        "start",
        "--head",
        "--block",
        "--port=0",
        "--num-cpus=4",
        "--include-dashboard=true",
        f"--dashboard-port={free_port()}",
        f"--dashboard-agent-listen-port={free_port()}",  # another Ray may have the usual one
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
    dashboard = next(part for part in command if part.startswith("--dashboard-port=")).split("=")
    yield environment | {
        "RAY_ADDRESS": found.group(1),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard[1]}",
    }
    os.killpg(process.pid, signal.SIGKILL)  # a polite end takes Ray half a minute
    process.wait(timeout=60)


@pytest.fixture(scope="session")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One log for many runs; a row group of it, 250 rows, cannot be read."""
    place = make_place(tmp_path_factory.mktemp("shared"))
    damage(place)
    return place


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with the shipped configuration and rules that looks every second."""
    with started_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.fixture(scope="session")
def killed_run(shared_place: Place, cluster: dict[str, str], prometheus: Prometheus) -> KilledRun:
    """A run under Prometheus's eyes that loses its exporter, and then a worker."""
    return train_and_kill(shared_place, cluster, prometheus)
