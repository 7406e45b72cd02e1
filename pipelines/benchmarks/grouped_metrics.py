"""Seconds and peak memory of GAUC, and of the gate with --gate, over scored rows on disk.

python -m pipelines.benchmarks.grouped_metrics --rows 20000000 --groups 8000000
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.benchmarks.measure import positive_int
from recsys_mtl.metrics.bootstrap import drop_sums
from recsys_mtl.metrics.gate import judge
from recsys_mtl.metrics.group_auc import group_auc_sums, summarise_group_auc
from recsys_mtl.metrics.scored_rows import ScoredRows, pairs

_BATCH_ROWS = 100_000


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; the rows go to a folder below TMPDIR that is removed at the end."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.benchmarks.grouped_metrics",
        description=__doc__.partition("\n")[0],
    )
    parser.add_argument("--rows", type=positive_int, default=2_000_000)
    parser.add_argument("--groups", type=positive_int, default=800_000)
    parser.add_argument("--tasks", type=positive_int, default=3)
    parser.add_argument("--gate", action="store_true", help="judge a second model's scores, too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        new, *others = (
            ScoredRows(Path(folder) / str(model), options.tasks)
            for model in range(1 + options.gate)
        )
        append_rows((new, *others), options.rows, options.groups)
        started = report("rows written", started)
        print(*summarise_group_auc(group_auc_sums(new)), sep="\n")
        started = report("GAUC", started)
        for other in others:
            tasks = [f"task{number}" for number in range(options.tasks)]
            sums = drop_sums(lambda other=other: pairs(new, other), options.tasks, seed=0)  # type: ignore[misc]
            print(judge(*sums, tasks, 0.001).summary)
            started = report("gate", started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / 1e6:.2f} GB")


def append_rows(models: Sequence[ScoredRows], num_rows: int, num_groups: int) -> None:
    """Draws rows of random groups, labels that follow a logit, and models that err from it."""
    rng = np.random.default_rng(1)
    for first in range(0, num_rows, _BATCH_ROWS):
        rows = min(_BATCH_ROWS, num_rows - first)
        shape = (rows, 1, models[0].num_tasks)
        # An odd factor keeps groups apart and spreads them over the upper bits.
        keys = rng.integers(0, num_groups, rows, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        truth = rng.normal(-2, 1, shape)
        labels = rng.random(shape)[:, 0] < 1 / (1 + np.exp(-truth[:, 0]))
        weights = np.ones_like(labels, np.float32)
        for model in models:
            logits = (truth + rng.normal(0, 0.2, shape)).astype(np.float32)
            model.append(keys, logits, labels, weights)


def report(work: str, started: float) -> float:
    """Prints the seconds since `started`; the present time."""
    now = time.perf_counter()
    print(f"{work}: {now - started:.1f} s")
    return now


if __name__ == "__main__":
    main()
