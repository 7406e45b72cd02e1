"""What scrapes cost training: rows a second with and without them, in turns in one run.

    python -m pipelines.benchmarks.exporter_load pipelines/runs/demo.yaml --scrapes-per-second 20

Trains the run under a name of its own in a temporary folder, until all turns have been measured.
A turn's throughput is rows between two reports of rank 0 over the time between them, both read from
the page. The scraper runs on the same machine, so its own work counts as the exporter's.
"""

import argparse
import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from pipelines.benchmarks.measure import positive_int

_POLL_SECONDS = 0.5
_START_SECONDS = 300


@dataclass(frozen=True)
class Reported:
    """Where rank 0 last said training stood."""

    rows: float
    at: float
    """Unix seconds."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; status 1 where the run ended before everything was measured."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.benchmarks.exporter_load", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("run_yaml", help="the run to train")
    parser.add_argument("--scrapes-per-second", type=positive_int, default=20)
    parser.add_argument("--seconds", type=positive_int, default=30, help="of a turn")
    parser.add_argument("--turns", type=positive_int, default=3, help="of each kind")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers, too")
    options = parser.parse_args(arguments)
    try:
        with training(options.run_yaml) as url:
            turns = measure(url, options.turns, options.seconds, options.scrapes_per_second)
    except (RuntimeError, OSError) as error:
        print(f"exporter_load: {error}", file=sys.stderr)
        sys.exit(1)
    numbers = {name: [round(rate, 1) for rate in rates] for name, rates in turns.items()}
    change = median(turns["scraped"]) / median(turns["quiet"]) - 1
    table = Table(
        title=f"{options.scrapes_per_second} scrapes a second, turns of {options.seconds} s"
    )
    for column in ("turn", "median rows/s", "lowest", "highest"):
        table.add_column(column, justify="left" if column == "turn" else "right")
    for name, rates in turns.items():
        table.add_row(name, *(f"{rate:,.0f}" for rate in (median(rates), min(rates), max(rates))))
    Console().print(table)
    print(f"change of the median by scraping: {change:+.1%}")
    if options.json is not None:
        options.json.write_text(json.dumps({"rows_per_second": numbers, "change": change}))


@contextlib.contextmanager
def training(run_yaml: str) -> Iterator[str]:
    """The URL of the page of a run that trains until the end of the `with` block."""
    with tempfile.TemporaryDirectory(prefix="exporter_load_") as folder:
        settings = {
            "run.name": "exporter_load",
            "run.storage_path": folder,
            "training.epochs": 1_000_000,
            "training.max_steps": "null",
            "training.checkpoint_interval_steps": "null",
            "training.evaluation_interval_steps": "null",
            "training.log_interval_steps": 5,
            "metrics": "{bind_address: 127.0.0.1, linger_seconds: 0}",
        }
        command = [sys.executable, "-m", "recsys_mtl", "train", run_yaml, "--log-format", "json"]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    found = re.search(r'"url": "(http://[^"]+/metrics)"', line)
                    if found:
                        break
                else:
                    raise RuntimeError("the run ended before it served metrics; it says why above")
                # Its lines have to go somewhere, or it would wait for a reader.
                threading.Thread(target=process.stdout.read, daemon=True).start()
                yield found[1]
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=120)


def measure(url: str, turns: int, seconds: float, per_second: int) -> dict[str, list[float]]:
    """Rows a second of `turns` quiet and as many scraped turns, in turns."""
    _wait_for_report(url, after=0.0, seconds=_START_SECONDS)
    _rate(url, seconds / 2)  # compilers and caches warm up
    rates: dict[str, list[float]] = {"quiet": [], "scraped": []}
    for _ in range(turns):
        rates["quiet"].append(_rate(url, seconds))
        with scraping(url, per_second):
            rates["scraped"].append(_rate(url, seconds))
    return rates


@contextlib.contextmanager
def scraping(url: str, per_second: int) -> Iterator[None]:
    """Scrape so often until the end of the `with` block.

    Raises:
        RuntimeError: less than nine tenths of the scrapes were answered.
    """
    stopped, answered, started = threading.Event(), 0, time.monotonic()

    def scrape() -> None:
        nonlocal answered
        due = time.monotonic()
        while not stopped.wait(max(0.0, due - time.monotonic())):
            due += 1 / per_second
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
                answered += bool(answer.read())

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=10)
    wanted = per_second * (time.monotonic() - started)
    if answered < 0.9 * wanted:
        raise RuntimeError(f"only {answered} of {wanted:.0f} scrapes were answered in time")


def _rate(url: str, seconds: float) -> float:
    """Rows a second between the next report and the first one so many seconds later."""
    first = _wait_for_report(url, after=_reported(url).at, seconds=60)
    time.sleep(seconds)
    last = _wait_for_report(url, after=_reported(url).at, seconds=60)
    return (last.rows - first.rows) / (last.at - first.at)


def _wait_for_report(url: str, after: float, seconds: float) -> Reported:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        reported = _reported(url)
        if reported.at > after and reported.rows:
            return reported
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"the run has reported nothing for {seconds:.0f} s")


def _reported(url: str) -> Reported:
    with urllib.request.urlopen(url, timeout=5) as answer:
        page = answer.read().decode()
    rows = re.search(r"^recsys_mtl_rows_total{.*} (\S+)$", page, re.MULTILINE)
    at = re.search(r"^recsys_mtl_updated_timestamp_seconds{.*} (\S+)$", page, re.MULTILINE)
    assert at is not None
    return Reported(float(rows[1]) if rows else 0.0, float(at[1]))


if __name__ == "__main__":
    main()
