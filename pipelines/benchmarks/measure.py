"""Timing several things side by side, and what is printed and written of it."""

# T tasks, P shared parameters

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

WARM_UP_ROUNDS = 2
"""Caches, allocators and lazy initialisation settle before the first timed round."""


@dataclass(frozen=True)
class Row:
    """What one contender took at one size."""

    name: str
    num_tasks: int
    num_parameters: int
    batch_size: int | None
    median_seconds: float
    p10_seconds: float
    p90_seconds: float
    ratio: float
    """median, over the median of the baseline in the same rounds"""


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], *, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each call in each of `rounds` rounds.

    Every round calls all of them once, so that a slow spell of the machine meets all alike, and
    in an order of its own: what the one before leaves in the caches is worth up to a third of a
    call (1.4 million columns of 3 tasks).
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_index in range(WARM_UP_ROUNDS + rounds):
        for name in random.sample(list(calls), len(calls)):
            start = time.perf_counter()
            calls[name]()
            elapsed = time.perf_counter() - start
            if round_index >= WARM_UP_ROUNDS:
                seconds[name].append(elapsed)
    return seconds


def summarise(
    seconds: Mapping[str, Sequence[float]],
    *,
    baseline: str,
    num_tasks: int,
    num_parameters: int,
    batch_size: int | None = None,
) -> list[Row]:
    """Medians, spread and ratios of what `time_interleaved` returned, in its order."""
    baseline_median = float(np.median(seconds[baseline]))
    rows = []
    for name, measured in seconds.items():
        p10, median, p90 = (float(value) for value in np.percentile(measured, [10, 50, 90]))
        ratio = median / baseline_median
        rows.append(Row(name, num_tasks, num_parameters, batch_size, median, p10, p90, ratio))
    return rows


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """One table, times in milliseconds."""
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for column in ("median ms", "p10 ms", "p90 ms", "ratio"):
        table.add_column(column, justify="right")
    for row in rows:
        times = (row.median_seconds, row.p10_seconds, row.p90_seconds)
        table.add_row(row.name, *(f"{1e3 * value:.2f}" for value in times), f"{row.ratio:.2f}")
    Console().print(table)


def write_json(path: Path, threads: int, rows: Sequence[Row]) -> None:
    """`{"threads": ..., "rows": [{"name", "T", "P", "batch_size", "median_seconds", "ratio"}]}`"""
    written = [
        {
            "name": row.name,
            "T": row.num_tasks,
            "P": row.num_parameters,
            "batch_size": row.batch_size,
            "median_seconds": row.median_seconds,
            "ratio": row.ratio,
        }
        for row in rows
    ]
    path.write_text(json.dumps({"threads": threads, "rows": written}, indent=2) + "\n")


def positive_int(text: str) -> int:
    """An argument of a benchmark's command line."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, got '{text}'")
    return int(text)


def add_common_arguments(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    """--threads, --rounds and --json."""
    parser.add_argument(
        "--threads", type=positive_int, default=1, help="of torch, on the CPU (%(default)s)"
    )
    parser.add_argument(
        "--rounds", type=positive_int, default=rounds, help="calls of each method (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
