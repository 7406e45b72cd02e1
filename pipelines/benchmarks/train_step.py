"""What a training step costs under each method, on one worker: rows to updates, reading excluded.

    python -m pipelines.benchmarks.train_step --threads 1 --json train_step.json

The model of the GradOPS paper: 46 features of 16 columns each, the bottom 1024-512-256-128, three
tasks with linear heads. Every contender does the whole step: lookup in the sharded tables, forward,
backward to the 736 inputs, combination, Adam, one update of the tables. Ours run `train_step`
itself; `torchjd_*` run TorchJD's `mtl_backward` on the same model between the same lookup and
updates, its combination weights taken for the tables, too. `gradops` is scope bottom and
`gradops_all` scope all, both exact; `gradops_refresh8` is a mean over a refresh and the seven
steps after it; ratios are to `uniform` in the same rounds. Left out is what `train_step` measures
at log intervals (every 20th step by default) and audits (every 100th) alone.

Before anything is timed, each method's update is compared with plain per-task gradients combined in
float64; where one is wrong, the run ends with status 1 and names it.
"""

# B rows, T tasks, P parameters of the bottom, E = 736 columns of all embeddings

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
import yaml
from torch import Tensor
from torch.nn.functional import embedding
from torchrec import KeyedJaggedTensor

from pipelines.benchmarks.measure import (
    Row,
    add_common_arguments,
    positive_int,
    print_rows,
    summarise,
    time_interleaved,
    write_json,
)
from pipelines.benchmarks.torchjd_step import torchjd_step
from pipelines.benchmarks.weights import (
    imtl_g_weights,
    pcgrad_weights,
    plain_gram,
    upgrad_weights,
)
from recsys_mtl.config import RunConfig
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.manifest import Manifest, RowGroup
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.gradients import gradops_reference
from recsys_mtl.metrics.record import PhaseClock
from recsys_mtl.model.losses import task_losses
from recsys_mtl.train import train_step
from recsys_mtl.worker import Worker, build

FEATURES, COLUMNS, TASKS = 46, 16, ("purchase", "cart", "wish")
TABLE_ROWS = (50_000, 100_000, 2_000, 200, 20, 3, 1_000, 8_000, 10, 60)
REFRESH = 8
ALPHA = 0.5
METHODS = {
    "uniform": "{kind: uniform}",
    "gradops": "{kind: gradops, alpha: 0.5, scope: bottom}",
    "gradops_all": "{kind: gradops, alpha: 0.5}",
    "gradops_refresh8": "{kind: gradops, alpha: 0.5, refresh_interval_steps: 8}",
    "gradops_representation": "{kind: gradops, alpha: 0.5, space: representation}",
    "torchjd_pcgrad": "{kind: uniform}",
    "torchjd_imtl_g": "{kind: uniform}",
    "torchjd_upgrad": "{kind: uniform}",
}
CHECK_RATE = 1e3
"""Learning rate of plain descent in the check: what moved is the update, not rounding."""
TOLERANCE = 1e-4
"""Of an update from float32 gradients, relative to the terms it is summed from."""


@dataclass(frozen=True)
class Contender:
    """A method with a model of its own."""

    worker: Worker
    step: Callable[[ClickBatch], object]
    """One training step on a batch."""


@dataclass(frozen=True)
class PlainGradients:
    """Every task's gradient at the initial parameters, by autograd on dense tables."""

    bottom: Tensor
    """[T, P]"""
    tables: Tensor
    """[T, all tables' numbers]"""
    representation: Tensor
    """[T, B H]"""


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
    num_parameters = contenders["uniform"].worker.shared.size
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


def check(names: Sequence[str], batch: ClickBatch) -> None:
    """Compare what each method moves in one step of plain descent with its definition.

    Raises:
        SystemExit: some method is wrong; nothing may be timed.
    """
    wrong = []
    for name in names:
        torch.manual_seed(0)  # PCGrad draws an order
        bottom, tables, plain = moved(name, batch)
        torch.manual_seed(0)
        inside, outside = expected_weights(name, plain)
        errors = (
            error_of(found, weights, gradients.double())
            for found, weights, gradients in (
                (bottom, inside, plain.bottom),
                (tables, outside, plain.tables),
            )
        )
        # TorchJD's Gram is float32: its PCGrad was seen 4e-3 off its definition.
        limit = 2e-2 if name.startswith("torchjd") else TOLERANCE
        wrong += [f"{name} (relative error {e:.1e})" for e in errors if not e <= limit]
    if wrong:
        raise SystemExit(f"wrong update: {', '.join(wrong)}; nothing was timed.")


def error_of(found: Tensor, weights: Tensor, gradients: Tensor) -> float:
    """|found - sum_i w_i g_i| over sum_i |w_i g_i|, which does not vanish where terms cancel."""
    terms = weights[:, None] * gradients
    return float((found - terms.sum(dim=0)).norm() / terms.norm(dim=1).sum())


def moved(name: str, batch: ClickBatch) -> tuple[Tensor, Tensor, PlainGradients]:
    """What one step takes off bottom [P] and tables, and the tasks' gradients before it.

    With held coefficients it is the step after the refresh, from the same parameters.
    """
    found = contender(name, len(batch.labels), "sgd")
    worker = found.worker
    tables = table_tensors(worker)
    parameters = [worker.shared.vector, worker.private.vector, *tables]
    before = [p.clone() for p in parameters]
    plain = plain_gradients(worker, batch, tables)
    for step in [0, 1] if name == "gradops_refresh8" else [0]:
        for parameter, old in zip(parameters, before, strict=True):
            parameter.copy_(old)
        found.step(replace(batch, step=step))
    bottom, _, *rows = (
        (old.double() - new) / CHECK_RATE for old, new in zip(before, parameters, strict=True)
    )
    return bottom[: worker.shared.size], torch.cat([r.flatten() for r in rows]), plain


def plain_gradients(worker: Worker, batch: ClickBatch, tables: Sequence[Tensor]) -> PlainGradients:
    """By autograd of the model as modules, without a cut, a shard or a flat buffer."""
    assert batch.ids is not None
    dense = [table.clone().requires_grad_() for table in tables]
    ids = batch.ids.values().view(FEATURES, -1)
    inputs = torch.cat([embedding(i, table) for i, table in zip(ids, dense, strict=True)], dim=1)
    bottom = list(worker.bottom.parameters())
    representation = worker.bottom(inputs)
    counts = batch.label_mask.sum(dim=0)
    losses = task_losses(worker.heads(representation), batch.labels, batch.label_mask, counts)
    wanted = [*bottom, *dense, representation]
    found = [torch.autograd.grad(loss, wanted, retain_graph=True) for loss in losses]

    def stacked(first: int, last: int) -> Tensor:
        return torch.stack([torch.cat([g.flatten() for g in task[first:last]]) for task in found])

    cuts = [len(bottom), len(bottom) + len(dense), len(wanted)]
    return PlainGradients(stacked(0, cuts[0]), stacked(*cuts[:2]), stacked(*cuts[1:]))


def expected_weights(name: str, plain: PlainGradients) -> tuple[Tensor, Tensor]:
    """What the method multiplies the tasks' gradients of bottom and tables by, [T] float64 each."""
    bottom = plain_gram(plain.bottom)
    match name:
        case "uniform":
            weights = torch.ones(len(bottom), dtype=torch.float64)
        case "gradops":
            return reference_weights(bottom)
        case "gradops_all" | "gradops_refresh8":
            weights, _ = reference_weights(bottom + plain_gram(plain.tables))
        case "gradops_representation":
            weights, _ = reference_weights(plain_gram(plain.representation))
        case "torchjd_pcgrad":
            weights = pcgrad_weights(bottom)
        case "torchjd_imtl_g":
            weights = imtl_g_weights(bottom)
        case "torchjd_upgrad":
            weights = upgrad_weights(bottom)
        case _:
            raise AssertionError(name)
    return weights, weights


def reference_weights(gram: Tensor) -> tuple[Tensor, Tensor]:
    """GradOPS's coefficients c and weights w by its reference, on coordinates with this Gram."""
    coordinates = torch.linalg.cholesky(gram)
    update, weights, _ = gradops_reference(coordinates, alpha=ALPHA, zero_sine_squared=1e-8)
    return torch.linalg.solve(coordinates.T, update), weights


def table_tensors(worker: Worker) -> list[Tensor]:
    """Every table [rows, 16], in the order of the features."""
    assert worker.tables is not None
    rows = worker.tables.state()["rows"]
    names = [f"embedding_bags.feature_{place}_table.weight" for place in range(FEATURES)]
    return [rows[name].local_shards()[0].tensor.detach() for name in names]


def timed_call(name: str, found: Contender, batch: ClickBatch) -> Callable[[], object]:
    """One step; for held coefficients, a refresh and all the steps until the next."""
    if name != "gradops_refresh8":
        return lambda: found.step(replace(batch, step=1))
    return lambda: [found.step(replace(batch, step=step)) for step in range(REFRESH)]


def contender(name: str, batch_size: int, optimizer: str) -> Contender:
    """The method on a fresh model; Adam, or for the check plain descent."""
    config = RunConfig.model_validate(run_tree(name, batch_size, optimizer), strict=False)
    manifest = Manifest("log", (RowGroup("log", 0, batch_size),), "")
    worker = build(config, WorkerContext(0, 1, 1, torch.device("cpu")), manifest)
    if name.startswith("torchjd"):
        return Contender(worker, torchjd_step(name, worker))
    return Contender(worker, lambda batch: train_step(worker, batch, PhaseClock()))


def run_tree(name: str, batch_size: int, optimizer: str) -> dict[str, object]:
    """The run's configuration as `RunConfig` takes it."""
    rate = 1e-3 if optimizer == "adam" else CHECK_RATE
    tables = {"kind": "rowwise_adagrad"} if optimizer == "adam" else {"kind": "sgd"}
    return {
        "run": {"name": name},
        "data": {
            "train": "log",
            "eval": "log",
            "lanes": 1,
            "features": {
                f"feature_{place}": {
                    "kind": "id",
                    "rows": TABLE_ROWS[place % len(TABLE_ROWS)],
                    "embedding_dim": COLUMNS,
                }
                for place in range(FEATURES)
            },
            "labels": {task: task for task in TASKS},
        },
        "method": yaml.safe_load(METHODS[name]),
        "optimizer": {
            "dense": {"kind": optimizer, "learning_rate": rate},
            "tables": tables | {"learning_rate": rate},
        },
        "training": {"global_batch_size": batch_size},
    }


def random_batch(batch_size: int) -> ClickBatch:
    """[B] rows of one id a feature; the second task's labels oppose the first's."""
    rows = [TABLE_ROWS[place % len(TABLE_ROWS)] for place in range(FEATURES)]
    values = torch.cat([torch.randint(r, (batch_size,)) for r in rows])
    labels = torch.rand(batch_size, len(TASKS)).round()
    labels[:, 1] = torch.where(torch.rand(batch_size) < 0.4, 1 - labels[:, 0], labels[:, 1])
    return ClickBatch(
        step=1,
        ids=KeyedJaggedTensor(
            keys=[f"feature_{place}" for place in range(FEATURES)],
            values=values,
            lengths=torch.ones(FEATURES * batch_size, dtype=torch.long),
            length_per_key=[batch_size] * FEATURES,
        ),
        dense=torch.zeros(batch_size, 0),
        labels=labels,
        label_mask=torch.ones(batch_size, len(TASKS), dtype=torch.bool),
        counts=torch.tensor([batch_size, 0.0]),
        rows=batch_size,
        nulls=torch.zeros(FEATURES + len(TASKS), dtype=torch.long).numpy(),
    )


if __name__ == "__main__":
    main()
