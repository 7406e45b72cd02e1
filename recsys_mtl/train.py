"""Training, from top to bottom: one batch from Parquet rows to table updates.

B rows of this worker's batch, T tasks, O objectives (T, or 1 for the uniform sum), P shared
parameters, H head parameters, E columns of all pooled embeddings.
"""

import time
from dataclasses import dataclass
from typing import Any

import ray.train
import ray.train.torch
import torch
from torch import Tensor

from recsys_mtl import checkpoint
from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.plan import Plan
from recsys_mtl.data.stream import BatchStream, plan_of
from recsys_mtl.distributed.collectives import PendingSums, all_reduce_sum
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.gradients.gram import gram_matrix
from recsys_mtl.gradients.methods import method_coefficients, objectives
from recsys_mtl.gradients.update import combined_update, descent_cosines
from recsys_mtl.metrics.auc import AucHistogram, BinarySums, auc_from_histogram, summarise_binary
from recsys_mtl.metrics.record import PhaseClock, StepRecord
from recsys_mtl.model.losses import task_losses
from recsys_mtl.optimizers import warm_up_factor
from recsys_mtl.report import Reporter
from recsys_mtl.worker import Worker, build


@dataclass(frozen=True)
class TrainJob:
    """What the driver hands to every worker."""

    config: RunConfig
    """Checked."""
    device: str
    """`cpu` or `cuda`."""
    train: Manifest
    """Of data.train."""
    eval: Manifest
    """Of data.eval."""
    run_url: str
    """The run's own folder."""
    last_step: int
    """Steps at the end of the run."""
    exporter: Any
    """Actor handle of the run's exporter, or None."""


def train_worker(job: TrainJob) -> None:
    """One Ray Train worker, from its start or the run's last checkpoint to the end."""
    config, context = job.config, _context(job)
    worker = build(config, context, job.train)
    reporter = Reporter(config, context, job.run_url, worker.plan, job.last_step, job.exporter)
    step = _restore(worker, reporter, job)
    with _stream(worker, job.train, worker.plan, step, job.last_step) as batches:
        waiting_since = time.perf_counter()
        for batch in batches:
            clock = PhaseClock(data_wait_seconds=time.perf_counter() - waiting_since)
            on_device = batch.to(context.device)
            record, logits = train_step(worker, on_device, clock)
            reporter.add(on_device, record, logits)
            step = batch.step + 1
            if _due(step, config.training.log_interval_steps):
                reporter.report(step)
            if _due(step, config.training.evaluation_interval_steps) and step < job.last_step:
                reporter.evaluated(step, evaluate(worker, job.eval))
                reporter.restart_clock()
            if _due(step, config.training.checkpoint_interval_steps) and step < job.last_step:
                _save(worker, reporter, job, step)
                reporter.restart_clock()
            waiting_since = time.perf_counter()
    reporter.report(step)
    reporter.evaluated(step, evaluate(worker, job.eval))
    _save(worker, reporter, job, step)


def train_step(worker: Worker, batch: ClickBatch, clock: PhaseClock) -> tuple[StepRecord, Tensor]:
    """One batch, from its rows to the updates it makes; returns what to remember and the logits.

    Every worker calls it with its part of the same global batch.
    """
    # How many labels of each task the global batch has: a loss is the mean over all of them.
    label_counts, row_counts = _count(batch)  # [T], [2]
    clock.lap("communication")

    # Rows to logits to losses. The graph is cut at the pooled embeddings: however many tasks there
    # are, the tables are updated once, at the end.
    factor = warm_up_factor(batch.step, worker.config.training.warm_up_steps)
    pooled = worker.pooled(batch, learning_rate_factor=factor)  # [B, E]
    inputs = pooled.detach().requires_grad_()
    logits = worker.forward(inputs, batch.dense, worker.dropout_masks(batch.step))  # [B, T]
    losses = task_losses(logits, batch.labels, batch.label_mask, label_counts)  # [T]
    clock.lap("forward")

    # One gradient an objective: of the bottom into worker.shared_gradients [O, P], of the heads
    # into worker.private_gradient [H], both summed over the workers; of the inputs, local.
    sums = PendingSums()
    input_gradients = _backward(worker, losses, inputs, sums)  # [O, B, E]
    clock.lap("backward")
    losses = losses.detach()
    sums.add(losses)
    sums.wait()
    clock.lap("communication")

    # Products of the gradients to coefficients to one update.
    gram = gram_matrix(worker.shared_gradients)  # [O, O] float64
    method = method_coefficients(worker.config.method, gram)
    clip = worker.config.training.gradient_clip_norm
    update = combined_update(worker.shared_gradients, worker.private_gradient, gram, method, clip)
    clock.lap("deconflict")

    # Everything moves, or, where something is not finite, nothing. The tables are outside the Gram.
    before = worker.shared.vector.clone()
    worker.optimizer.step([update.shared, update.private], skip=update.skip, factor=factor)
    if worker.tables is not None:
        combined = torch.tensordot(update.outside_weights, input_gradients, dims=1)  # [B, E]
        worker.tables.update(pooled, torch.where(update.skip, 0.0, combined))
    clock.lap("optimizer")
    record = StepRecord(
        losses=losses,
        gram=gram,
        method=method,
        skipped=update.skip,
        update_norm=update.norm,
        applied=descent_cosines(worker.shared_gradients, gram, worker.shared.vector - before),
        rows=row_counts,
        seconds=clock.seconds,
    )
    return record, logits.detach()


def evaluate(worker: Worker, manifest: Manifest) -> dict[str, dict[str, float]]:
    """AUC, log-loss, positives and labelled rows of each task over a whole log.

    Its forward is collective, too: every worker makes the same padded steps.
    """
    num_tasks, device = len(worker.config.task_names), worker.context.device
    histogram, sums = AucHistogram(num_tasks, device), BinarySums(num_tasks, device)
    plan = plan_of(
        manifest,
        worker.config.data,
        global_batch_size=worker.config.training.global_batch_size,
        seed=None,
    )
    with torch.no_grad(), _stream(worker, manifest, plan, 0, plan.steps_per_epoch) as batches:
        for batch in (b.to(device) for b in batches):
            logits = worker.forward(worker.pooled(batch), batch.dense, [])
            histogram.update(logits, batch.labels, batch.label_mask)
            sums.update(logits, batch.labels, batch.label_mask)
    auc = auc_from_histogram(all_reduce_sum(histogram.state())).tolist()
    summary = summarise_binary(all_reduce_sum(sums.state()))
    columns = {"auc": auc, "log_loss": summary.log_loss.tolist()} | {
        name: [int(count) for count in getattr(summary, name).tolist()]
        for name in ("positives", "rows", "not_finite")
    }
    return {
        task: {name: values[place] for name, values in columns.items()}
        for place, task in enumerate(worker.config.task_names)
    }


def _count(batch: ClickBatch) -> tuple[Tensor, Tensor]:
    """Over the global batch: [T] labelled rows, and [2] rows and rejected rows."""
    rows = batch.dense.new_tensor([batch.rows, batch.rejected])
    # float32 counts are exact up to 2^24 rows of a batch.
    counts = all_reduce_sum(torch.cat([batch.label_mask.sum(dim=0).to(rows.dtype), rows]))
    return counts[:-2], counts[-2:]


def _backward(worker: Worker, losses: Tensor, inputs: Tensor, sums: PendingSums) -> Tensor:
    """[O, B, E] Gradients of the inputs; those of parameters go to the worker's buffers.

    The sum of one objective's gradient over the workers runs while the next is computed.
    """
    input_gradients, private = [], list[Tensor]()
    goals = objectives(worker.config.method, losses)
    num_shared = len(worker.shared.parameters)
    for objective, goal in enumerate(goals):
        gradients = torch.autograd.grad(
            goal,
            [inputs, *worker.shared.parameters, *worker.head_parameters[objective]],
            retain_graph=objective + 1 < len(goals),
        )
        input_gradients.append(gradients[0])
        row = worker.shared_gradients[objective]
        worker.shared.write_gradient(gradients[1 : 1 + num_shared], row)
        sums.add(row)
        private += gradients[1 + num_shared :]
    worker.private.write_gradient(private, worker.private_gradient)
    sums.add(worker.private_gradient)
    return torch.stack(input_gradients)


def _context(job: TrainJob) -> WorkerContext:
    context = ray.train.get_context()
    torch.set_num_threads(job.config.cluster.cpus_per_worker)
    device = ray.train.torch.get_device() if job.device == "cuda" else torch.device("cpu")
    return WorkerContext(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        local_world_size=context.get_local_world_size(),
        device=device,
    )


def _stream(worker: Worker, manifest: Manifest, plan: Plan, first: int, last: int) -> BatchStream:
    return BatchStream(
        manifest,
        plan,
        worker.config.data,
        rank=worker.context.rank,
        world_size=worker.context.world_size,
        first_step=first,
        last_step=last,
    )


def _due(step: int, interval: int | None) -> bool:
    return interval is not None and step % interval == 0


def _restore(worker: Worker, reporter: Reporter, job: TrainJob) -> int:
    """The step to go on from, with everything as it was after it; 0 without a checkpoint."""
    last = ray.train.get_checkpoint()
    if last is None:
        return 0
    tensors = {"worker": worker.tensors(), "reporter": reporter.tensors()}
    facts = checkpoint.restore(last, tensors, job.config, job.train.digest)
    if facts.step > job.last_step:
        raise UserError(
            f"run {job.config.run.name!r} has trained {facts.step} steps, more than the "
            f"{job.last_step} that training.epochs and training.max_steps now ask for; raise "
            "them, or start anew with --fresh"
        )
    reporter.load(tensors["reporter"], facts.totals, facts.evaluation, facts.window_steps)
    return facts.step


def _save(worker: Worker, reporter: Reporter, job: TrainJob, step: int) -> None:
    reporter.report(step)
    reporter.flush()
    facts = checkpoint.Facts(
        step=step,
        config=job.config,
        data_digest=job.train.digest,
        sharding_plan=str(worker.tables.plan) if worker.tables is not None else "",
        totals=reporter.totals.to_json(),
        evaluation=reporter.evaluation,
        window_steps=reporter.window_steps(),
    )
    tensors = {"worker": worker.tensors(), "reporter": reporter.tensors()}
    parameters = {
        "shared": worker.shared.size,
        "tables": worker.tables.num_parameters() if worker.tables is not None else 0,
        "heads": worker.private.size,
    }
    epochs = step / worker.plan.steps_per_epoch
    metrics = {
        "step": step,
        "epochs": epochs,
        "evaluation": reporter.evaluation,
        "parameters": parameters,
    }
    checkpoint.save(tensors, facts, metrics | {"totals": reporter.totals.to_json()})
