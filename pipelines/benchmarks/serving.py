"""How long a bundle takes to score 1, 100 and 1,000 rows, in this process and through HTTP.

    python -m pipelines.benchmarks.serving BUNDLE
    python -m pipelines.benchmarks.serving BUNDLE --url http://localhost:8000/score

Rows are the bundle's examples, over and over, as a list of dicts: what a server gets from JSON. One
request follows the other, so a time is what one caller waits on an idle server.
"""

import argparse
import http.client
import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from pipelines.benchmarks.measure import positive_int
from recsys_mtl.config import UserError
from recsys_mtl.serving import Scorer
from recsys_mtl.serving.bundle import EXAMPLES

_NUMBERS_OF_ROWS = (1, 100, 1_000)
Rows = list[dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; status 2 where there is no bundle, 1 where the server does not score."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.benchmarks.serving", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("bundle", help="the folder that recsys-mtl export wrote")
    parser.add_argument("--url", help="measure this server of the same bundle, too")
    parser.add_argument("--requests", type=positive_int, default=300, help="of each size")
    parser.add_argument("--threads", type=positive_int, default=1, help="of torch, in this process")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        started = time.perf_counter()
        scorer = Scorer.load(options.bundle)
        print(f"loaded and verified in {time.perf_counter() - started:.2f} s")
        callers: dict[str, Callable[[Rows], object]] = {"in this process": scorer.score}
        if options.url:
            callers["through HTTP"] = _http_caller(options.url)
        show(scorer, Path(options.bundle), callers, options.requests)
    except (UserError, OSError, RuntimeError) as error:
        print(f"serving: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)


def show(
    scorer: Scorer, bundle: Path, callers: dict[str, Callable[[Rows], object]], requests: int
) -> None:
    """Measure each caller at each number of rows, and print a table in milliseconds."""
    table = Table(title=f"milliseconds, {requests} requests each")
    for column in ("", "rows", "p50", "p99", "rows/s"):
        table.add_column(column, justify="left" if not column else "right")
    examples = pq.read_table(bundle / EXAMPLES, columns=list(scorer.bundle.columns)).to_pylist()
    for name, call in callers.items():
        for number in _NUMBERS_OF_ROWS:
            times = measure(call, list(islice(cycle(examples), number)), requests)
            p50, p99 = np.percentile(times, [50, 99])
            table.add_row(
                name, f"{number:,}", f"{p50:.2f}", f"{p99:.2f}", f"{1e3 * number / p50:,.0f}"
            )
    Console().print(table)


def measure(call: Callable[[Rows], object], rows: Rows, requests: int) -> list[float]:
    """Milliseconds of each request, after some that are not counted."""
    times = []
    for place in range(-max(3, requests // 10), requests):
        started = time.perf_counter()
        call(rows)
        if place >= 0:
            times.append(1e3 * (time.perf_counter() - started))
    return times


def _http_caller(url: str) -> Callable[[Rows], object]:
    """Post rows over one connection, as a caller with a pool of connections does."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=60)

    def call(rows: Rows) -> object:
        body = json.dumps(rows)
        connection.request("POST", place.path, body, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{url} answers {response.status}: {answer[:200]!r}")
        return json.loads(answer)

    return call


if __name__ == "__main__":
    main()
