"""How often the gate's 95 % intervals hold the true drop in AUC, over logs drawn from one world.

    python -m pipelines.experiments.gate_coverage --logs 1000

Users differ in how much they buy, and two models err by user and by row. The true drop is that of
4 million rows. Beside the intervals over users stand those that take each row for a user of its
own, which is what a bootstrap that ignores groups does.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipelines.benchmarks.measure import positive_int
from recsys_mtl.metrics.bootstrap import REPLICATES, drop_sums
from recsys_mtl.metrics.gate import Gate, judge
from recsys_mtl.metrics.scored_rows import ScoredBlock


class World(NamedTuple):
    """What logs are drawn from."""

    users: int
    rows_per_user: int
    """Mean; the rows of a user are geometric."""
    base: float
    """Logit of a positive for the mean user and item."""
    error: float
    """Of the model to compare with: standard deviation per user, and 0.6 of it per row."""
    error_of_new: float


ROWS_OF_A_LARGE_LOG = 1_000_000
WORLDS = (
    World(60, 5, -1.5, 0.5, 0.5),
    World(60, 5, -1.5, 0.5, 0.9),
    World(30, 20, -1.5, 0.8, 0.8),
    World(30, 20, -1.5, 0.8, 1.1),
    World(300, 10, -4.0, 0.5, 0.7),
    World(1_000, 5, -2.0, 0.3, 0.4),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.experiments.gate_coverage",
        description=__doc__.partition("\n")[0],
    )
    parser.add_argument("--logs", type=positive_int, default=1000, help="per world")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    table = Table(
        *("users", "rows per user", "base", "errors", "true drop", "half-width"),
        *("held by user", "held by row"),
        box=SIMPLE_HEAD,
    )
    for world in track(WORLDS, transient=True):
        rng = np.random.default_rng(options.seed)
        truth = true_drop(rng, world)
        by_user, by_row, half_widths = [], [], []
        for seed in range(options.logs):
            log = draw_log(rng, world)
            drop = gate_of(log, seed=seed).tasks["task"]
            by_user.append(drop.lower <= truth <= drop.upper)
            half_widths.append(drop.upper - drop.drop)
            drop = gate_of(one_user_per_row(rng, log), seed=seed).tasks["task"]
            by_row.append(drop.lower <= truth <= drop.upper)
        table.add_row(
            *(str(world.users), str(world.rows_per_user), str(world.base)),
            f"{world.error}, {world.error_of_new}",
            f"{truth:.4f}",
            f"{np.median(half_widths):.4f}",
            f"{np.mean(by_user):.3f}",
            f"{np.mean(by_row):.3f}",
        )
    Console(width=100).print(table)


def true_drop(rng: np.random.Generator, world: World) -> float:
    """The mean over four large logs."""
    large = world._replace(users=ROWS_OF_A_LARGE_LOG // world.rows_per_user)
    drops = [gate_of(draw_log(rng, large), replicates=4).tasks["task"].drop for _ in range(4)]
    return float(np.mean(drops))


def draw_log(rng: np.random.Generator, world: World) -> ScoredBlock:
    """Draws one log, with the logits [n, 2, 1] of the new model first."""
    sizes = rng.geometric(1 / world.rows_per_user, world.users)
    user = np.repeat(np.arange(world.users), sizes)
    rows = len(user)
    taste, item = rng.normal(size=world.users)[user], rng.normal(size=rows)
    labels = rng.random(rows) < 1 / (1 + np.exp(-(world.base + taste + item)))
    seen = world.base + 0.6 * taste + item
    logits = [
        seen + error * (rng.normal(size=world.users)[user] + 0.6 * rng.normal(size=rows))
        for error in (world.error_of_new, world.error)
    ]
    return ScoredBlock(
        rng.integers(0, 2**64, world.users, np.uint64)[user],
        np.stack(logits, axis=1)[:, :, None].astype(np.float32),
        labels[:, None],
        np.ones((rows, 1), np.float32),
    )


def one_user_per_row(rng: np.random.Generator, log: ScoredBlock) -> ScoredBlock:
    """The log as if all its rows were independent."""
    return log._replace(keys=rng.integers(0, 2**64, len(log.keys), np.uint64))


def gate_of(
    log: ScoredBlock, limit: float = 0.001, *, seed: int = 0, replicates: int = REPLICATES
) -> Gate:
    """The gate's verdict on a log of one task."""
    return judge(*drop_sums(lambda: [log], 1, seed=seed, replicates=replicates), ["task"], limit)


if __name__ == "__main__":
    main()
