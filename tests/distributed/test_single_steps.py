"""One worker's steps in this process: what is skipped, what is held, what a restart keeps."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.metrics.record import StepRecord
from recsys_mtl.train import train_step
from recsys_mtl.worker.build import build
from recsys_mtl.worker.reporting import Reporter
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.state import reporting as report

STEPS = 4
RUN = """
run: {{name: single, seed: 3}}
data:
  train: {log}
  eval: {log}
  lanes: 1
  features:
    item: {{kind: id, rows: 30, embedding_dim: 4}}
    price: {{kind: dense}}
  labels: {{purchase: purchase, cart: cart, wish: wish}}
model: {{bottom_hidden_sizes: [16, 8]}}
method: {{kind: gradops, alpha: -1.0}}
optimizer: {{tables: {{kind: rowwise_adagrad, learning_rate: 0.05}}}}
training: {{global_batch_size: 32}}
"""
METHODS = {
    "all": "gradients.scope=all",
    "bottom": "gradients.scope=bottom",
    "held": "gradients.refresh_interval_steps=3",
    "representation": "gradients.space=representation",
    "uniform": "method={kind: uniform}",
}


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print(f"seed of the log: {seed}")
    rng = np.random.default_rng(seed)
    rows, log = STEPS * 32, tmp_path / "log.parquet"
    labels = {task: rng.integers(0, 2, rows).astype(np.int8) for task in ("purchase", "cart")}
    columns = {"item": rng.integers(0, 40, rows), "price": rng.normal(size=rows), **labels}
    # Wish opposes purchase.
    pq.write_table(pa.table(columns | {"wish": 1 - columns["purchase"]}), log)
    path = tmp_path / "run.yaml"
    path.write_text(RUN.format(log=log))
    return path


def worker_and_batches(
    path: Path, context: WorkerContext, *overrides: str
) -> tuple[Worker, list[ClickBatch]]:
    config = load_config(path, overrides)
    manifest = read_manifest(config.data.train, config.data)
    worker = build(config, context, manifest)
    with BatchStream(
        manifest, worker.plan, config.data, rank=0, world_size=1, first_step=0, last_step=STEPS
    ) as stream:
        return worker, list(stream)


def numbers(worker: Worker) -> dict[str, Tensor]:
    """Everything that a step moves, copied; of the tables what this worker holds."""
    tensors = worker.tensors()
    flat = {"shared": tensors["shared"], "private": tensors["private"], "held": tensors["held"]}
    for vector, state in tensors["dense_optimizer"].items():
        flat |= {f"{vector} {name}": value for name, value in state.items()}
    for name, sharded in tensors["tables"]["rows"].items():
        flat[name] = sharded.local_shards()[0].tensor.detach()
    for table, state in tensors["tables"]["optimizer"].items():
        for name, sharded in state.items():
            flat[f"{table} {name}"] = sharded.local_shards()[0].tensor.detach()
    return {name: value.clone() for name, value in flat.items()}


def step(worker: Worker, batch: ClickBatch) -> StepRecord:
    record, _ = train_step(worker, batch, PhaseClock())
    return record


@pytest.mark.parametrize("limit", ["null", "1.0"])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("place", ["input", "head"])
def test_a_step_that_is_not_finite_moves_nothing_at_all(
    run_yaml: Path, alone: WorkerContext, method: str, limit: str, place: str
) -> None:
    clip = f"training.gradient_clip_norm={limit}"
    worker, batches = worker_and_batches(run_yaml, alone, method, clip)
    step(worker, batches[0])
    before = numbers(worker)
    if place == "input":
        spoilt = replace(batches[1], dense=torch.full_like(batches[1].dense, torch.inf))
        record = step(worker, spoilt)
    else:  # one task's
        saved = worker.private.vector.clone()
        worker.private.vector[worker.private.size - 1] = torch.nan
        before["private"] = worker.private.vector.clone()
        record = step(worker, batches[1])
        worker.private.vector.copy_(saved)
        before["private"] = saved
    assert record.skipped
    after = numbers(worker)
    assert after.keys() == before.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0, msg=name)
    assert not step(worker, batches[2]).skipped
    moved = numbers(worker)
    for name in ("shared", "private", "embedding_bags.item_table.weight"):
        assert not torch.equal(moved[name], before[name]), name


def test_training_that_has_diverged_ends_with_a_sentence(
    run_yaml: Path, alone: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_SKIPPED_IN_A_ROW", 3)
    worker, batches = worker_and_batches(run_yaml, alone)
    reporter = Reporter(
        worker.config, alone, str(run_yaml.parent / "run"), worker.plan, STEPS, exporter=None
    )

    def train(batch: ClickBatch) -> None:
        record, logits = train_step(worker, batch, PhaseClock())
        reporter.add(batch, record, logits)

    infinite = [replace(b, dense=torch.full_like(b.dense, torch.inf)) for b in batches]
    for batch in (infinite[0], infinite[1], batches[2]):
        train(batch)
    reporter.report(3)  # two skipped, and one that was not
    for batch in infinite[:2]:
        train(batch)
    reporter.report(5)
    assert reporter.totals.skipped_steps == 4
    train(infinite[2])
    with pytest.raises(UserError, match="the last 3 steps up to step 6 were skipped"):
        reporter.report(6)


def test_held_coefficients_outlive_a_restart(run_yaml: Path, alone: WorkerContext) -> None:
    refreshed = "gradients.refresh_interval_steps=4"
    undisturbed, batches = worker_and_batches(run_yaml, alone, refreshed)
    records = [step(undisturbed, batch) for batch in batches[:2]]
    saved = copy.deepcopy(numbers(undisturbed))
    assert (saved["held"] != 1).any()
    resumed, _ = worker_and_batches(run_yaml, alone, refreshed)
    resumed.tensors()["held"].copy_(saved["held"])  # as loading a checkpoint does, in place
    record = step(resumed, batches[2])
    assert torch.equal(record.decision.coefficients, records[1].decision.coefficients)


def test_a_task_without_a_label_at_a_refresh_keeps_its_coefficient(
    run_yaml: Path, alone: WorkerContext
) -> None:
    worker, batches = worker_and_batches(run_yaml, alone, "gradients.refresh_interval_steps=2")
    step(worker, batches[0])
    first = worker.held.clone()
    mask = batches[2].label_mask.clone()
    mask[:, 1] = False
    record = step(worker, replace(batches[2], label_mask=mask))
    assert record.decision.coefficients[1] == 0
    assert torch.equal(worker.held[:, 1], first[:, 1])
    assert not torch.equal(worker.held[:, 0], first[:, 0])
    without_labels = replace(batches[2], label_mask=torch.zeros_like(mask))
    before = worker.held.clone()
    step(worker, without_labels)
    assert torch.equal(worker.held, before)
