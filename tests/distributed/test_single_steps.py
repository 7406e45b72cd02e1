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
from recsys_mtl.exporter.client import ExporterFeed
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.metrics.record import StepRecord
from recsys_mtl.train import train_step
from recsys_mtl.worker import reporting
from recsys_mtl.worker.build import build
from recsys_mtl.worker.counts import count_globally
from recsys_mtl.worker.job import TrainJob
from recsys_mtl.worker.reporting import Reporter
from recsys_mtl.worker.state import Worker

STEPS = 4
CACHED = "cached_weights_and_coefficients"
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
    "pcgrad": "method={kind: pcgrad}",
    "gradnorm": "method={kind: gradnorm}",
    "mmoe": "model.body={kind: mmoe, experts: 2, expert_hidden_sizes: [8]}",
    "own layer": "model.task_specific_layers=[bottom.layers.0]",
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
    return {
        name: (t.local_shards()[0].tensor if hasattr(t, "local_shards") else t).detach().clone()
        for name, t in worker.state_dict().items()
    }


def step(worker: Worker, batch: ClickBatch) -> StepRecord:
    counts = count_globally(batch, stop_asked=False)
    record, _ = train_step(worker, batch, counts, PhaseClock())
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
        bias = worker.model.body.task_parameters(2)["heads.wish.0.bias"]
        saved = bias.detach().clone()
        with torch.no_grad():
            bias.fill_(torch.nan)
        record = step(worker, batches[1])
        with torch.no_grad():
            bias.copy_(saved)
    assert record.skipped
    after = numbers(worker)
    assert after.keys() == before.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0, msg=name)
    assert not step(worker, batches[2]).skipped
    moved = numbers(worker)
    for name in (*worker.model.body.shared_parameters(), "heads.wish.0.weight", "tables.item"):
        assert not torch.equal(moved[name], before[name]), name


def test_training_that_has_diverged_ends_with_a_sentence(
    run_yaml: Path, alone: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_SKIPPED_IN_A_ROW", 3)
    worker, batches = worker_and_batches(run_yaml, alone)
    manifest = read_manifest(worker.config.data.train, worker.config.data)
    job = TrainJob(
        config=worker.config,
        device="cpu",
        train=manifest,
        eval=manifest,
        run_url=str(run_yaml.parent / "run"),
        last_step=STEPS,
    )
    reporter = Reporter(worker, ExporterFeed(None), job)

    def train(batch: ClickBatch) -> None:
        counts = count_globally(batch, stop_asked=False)
        record, logits = train_step(worker, batch, counts, PhaseClock())
        reporter.add(batch, record, logits)

    infinite = [replace(b, dense=torch.full_like(b.dense, torch.inf)) for b in batches]
    for batch in (infinite[0], infinite[1], batches[2]):
        train(batch)
    reporter.report(3)  # two skipped, and one that was not
    for batch in infinite[:2]:
        train(batch)
    reporter.report(5)
    assert reporter.summary_with_checkpoint().totals["skipped_steps"] == 4
    train(infinite[2])
    with pytest.raises(UserError, match="the last 3 steps up to step 6 were skipped"):
        reporter.report(6)


def test_cached_coefficients_outlive_a_restart(run_yaml: Path, alone: WorkerContext) -> None:
    refreshed = "gradients.refresh_interval_steps=4"
    undisturbed, batches = worker_and_batches(run_yaml, alone, refreshed)
    records = [step(undisturbed, batch) for batch in batches[:2]]
    saved = copy.deepcopy(numbers(undisturbed))
    assert (saved[CACHED] != 1).any()
    resumed, _ = worker_and_batches(run_yaml, alone, refreshed)
    resumed.state_dict()[CACHED].copy_(saved[CACHED])  # as loading a checkpoint does, in place
    record = step(resumed, batches[2])
    assert torch.equal(record.weighting.coefficients, records[1].weighting.coefficients)


def test_a_task_without_a_label_at_a_refresh_keeps_its_coefficient(
    run_yaml: Path, alone: WorkerContext
) -> None:
    worker, batches = worker_and_batches(run_yaml, alone, "gradients.refresh_interval_steps=2")
    step(worker, batches[0])
    first = worker.weigher.cached.clone()
    mask = batches[2].label_mask.clone()
    mask[:, 1] = False
    record = step(worker, replace(batches[2], label_mask=mask))
    assert record.weighting.coefficients[1] == 0
    assert torch.equal(worker.weigher.cached[:, 1], first[:, 1])
    assert not torch.equal(worker.weigher.cached[:, 0], first[:, 0])
    without_labels = replace(batches[2], label_mask=torch.zeros_like(mask))
    before = worker.weigher.cached.clone()
    step(worker, without_labels)
    assert torch.equal(worker.weigher.cached, before)
