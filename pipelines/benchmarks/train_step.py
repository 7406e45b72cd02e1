"""What a training step costs under each method, on one worker: rows to updates, reading excluded.

    python -m pipelines.benchmarks.train_step --threads 1 --json train_step.json

The model of the GradOPS paper: 46 features of 16 columns each, the bottom 1024-512-256-128, three
tasks with linear heads. Every contender does the whole step: lookup in the sharded tables, forward,
backward to the 736 inputs, combination, Adam, one update of the tables. Ours run `train_step`
itself; `torchjd_*` run TorchJD's `mtl_backward` on the same model between the same lookup and
updates, its combination weights taken for the tables, too. A method's name alone is scope bottom
and `gradops_all` scope all, all exact; `gradops_refresh8` is a mean over a refresh and the seven
steps after it; `*_search` are steps of a search (recon), which count conflicts in every layer and
table; ratios are to `uniform` in the same rounds. Left out is what `train_step` measures
at log intervals (every 20th step by default) and audits (every 100th) alone.

Before anything is timed, each method's update is compared with plain per-task gradients combined in
float64; where one is wrong, the run ends with status 1 and names it. TorchJD's MGDA is not here, as
it stops short of the shortest combination.
"""

# B rows, T tasks, P parameters of the bottom, E = 736 columns of all embeddings

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from pipelines.benchmarks.measure import (
    Row,
    add_common_arguments,
    positive_int,
    print_rows,
    summarise,
    time_interleaved,
    write_json,
)
from pipelines.benchmarks.step_check import check
from pipelines.benchmarks.step_contenders import (
    METHODS,
    REFRESH,
    TASKS,
    Contender,
    contender,
    random_batch,
)
from recsys_mtl.data.batch import ClickBatch


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; status 1 where a method is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.benchmarks.train_step",
        description="Time whole training steps of every method on one worker.",
    )
    parser.add_argument("--batch-size", type=positive_int, default=2048)
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    add_common_arguments(parser, rounds=7)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print("seed", torch.seed())
    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{Path(folder) / 'store'}"
        dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
        try:
            rows = measure(options.methods, options.batch_size, options.rounds)
        finally:
            dist.destroy_process_group()
    print_rows(f"B = {options.batch_size}, T = 3; threads: {options.threads}", rows)
    if options.json is not None:
        write_json(options.json, options.threads, rows)


def measure(methods: Sequence[str], batch_size: int, rounds: int) -> list[Row]:
    """Check, then time the methods; `uniform` is always among them."""
    names = list(dict.fromkeys(["uniform", *methods]))
    batch = random_batch(batch_size)
    check(names, batch)
    contenders = {name: contender(name, batch_size, "adam") for name in names}
    num_parameters = contenders["uniform"].worker.model.shared.size
    calls = {name: timed_call(name, c, batch) for name, c in contenders.items()}
    seconds = time_interleaved(calls, rounds=rounds)
    seconds["gradops_refresh8"] = [s / REFRESH for s in seconds.get("gradops_refresh8", [])]
    return summarise(
        {name: seconds[name] for name in names},
        baseline="uniform",
        num_tasks=len(TASKS),
        num_parameters=num_parameters,
        batch_size=batch_size,
    )


def timed_call(name: str, found: Contender, batch: ClickBatch) -> Callable[[], object]:
    """One step; for held coefficients, a refresh and all the steps until the next."""
    if name != "gradops_refresh8":
        return lambda: found.step(replace(batch, step=1))
    return lambda: [found.step(replace(batch, step=step)) for step in range(REFRESH)]


if __name__ == "__main__":
    main()
