"""Training, from top to bottom: one batch from Parquet rows to table updates.

B rows of this worker's batch, T tasks, H' columns of the representation, P parameters of the
bottom, H of the heads, E columns of all pooled embeddings.
"""

import time

import ray.train
import ray.train.torch
import torch
from torch import Tensor

from recsys_mtl.config import GradOPS, UserError
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.plan import Plan, plan_of
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.distributed.collectives import PendingSums, all_reduce_sum
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.gradients.combination import clip_factor, descent_cosines, vector_norm
from recsys_mtl.metrics.auc import AucHistogram, BinarySums, auc_from_histogram, summarise_binary
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.metrics.record import BYTE_KINDS, StepRecord
from recsys_mtl.model.losses import task_losses
from recsys_mtl.worker import checkpoint
from recsys_mtl.worker.job import TrainJob
from recsys_mtl.worker.optimizers import warm_up_factor
from recsys_mtl.worker.reporting import Reporter
from recsys_mtl.worker.shared_update import Backward, SharedUpdate, shared_update
from recsys_mtl.worker.state import Worker, build


def train_worker(job: TrainJob) -> None:
    """One Ray Train worker, from its start or the run's last checkpoint to the end."""
    config, context = job.config, _context(job)
    worker = build(
        config, context, job.train, checkpoint.earlier_plan(ray.train.get_checkpoint(), config)
    )
    reporter = Reporter(config, context, job.run_url, worker.plan, job.last_step, job.exporter)
    step = _restore(worker, reporter, job)
    reporter.begin(worker.tables.plan if worker.tables is not None else {})
    first_step, step = step, _train(worker, reporter, job, step)
    if step > first_step:
        _save(worker, reporter, job, step)  # safe before anything else can go wrong
    if step == job.last_step:
        reporter.evaluated(evaluate(worker, job.eval))
        _save(worker, reporter, job, step)
    reporter.close()


def _train(worker: Worker, reporter: Reporter, job: TrainJob, step: int) -> int:
    """Train from `step` to the end, or to where the run is asked to stop; returns that step."""
    training = worker.config.training
    record: StepRecord | None = None
    with _stream(worker, job.train, worker.plan, step, job.last_step) as batches:
        waiting_since = time.perf_counter()
        for batch in batches:
            clock = PhaseClock(data_wait_seconds=time.perf_counter() - waiting_since)
            before = record
            on_device = batch.to(worker.context.device)
            record, logits = train_step(worker, on_device, clock, stop=reporter.stop_asked())
            reporter.add(on_device, record, logits)
            step = batch.step + 1
            # Every worker sees the same votes at the same step. Those of the step before, which
            # a device has done by now: nobody waits for this one.
            if before is not None and bool(before.stop_votes > 0):
                break
            if _due(step, training.log_interval_steps):
                reporter.report(step)
            if _due(step, training.evaluation_interval_steps) and step < job.last_step:
                reporter.report(step)  # first: an evaluation is no training time
                reporter.evaluated(evaluate(worker, job.eval))
                reporter.restart_clock()
            if _due(step, training.checkpoint_interval_steps) and step < job.last_step:
                _save(worker, reporter, job, step)
                reporter.restart_clock()
            waiting_since = time.perf_counter()
    reporter.report(step)
    return step


def train_step(
    worker: Worker, batch: ClickBatch, clock: PhaseClock, *, stop: bool = False
) -> tuple[StepRecord, Tensor]:
    """One batch, from its rows to the updates it makes; returns what to remember and the logits.

    Every worker calls it with its part of the same global batch, and says whether it was asked to
    stop.
    """
    training = worker.config.training
    # How many labels of each task the global batch has: a loss is the mean over all of them.
    label_counts, row_counts, stop_votes = _count(batch, stop)  # [T], [1 + R], [1]
    clock.lap("communication")

    # Ids to pooled embeddings to the representation to logits to losses. The graph is cut at the
    # owners of the tables: however many tasks there are, one backward moves them, at the end.
    factor = warm_up_factor(batch.step, training.warm_up_steps)
    lookup = worker.look_up(batch, learning_rate_factor=factor)  # pooled [B, E]
    tape = worker.forward(lookup, batch.dense, worker.dropout_masks(batch.step))
    losses = task_losses(tape.logits, batch.labels, batch.label_mask, label_counts)  # [T]
    clock.lap("forward")

    # Each loss back to the representation. A head has its own loss's gradient, [H] for them all.
    sums = PendingSums()
    deltas, private = tape.through_heads(losses)  # [T, B, H']
    worker.private.write_gradient(private, worker.private_gradient)
    sums.add(worker.private_gradient)
    sums.add(losses := losses.detach())

    # From the representation down to bottom and tables: a gradient a task, their products and the
    # combination, or, between refreshes and for the uniform sum, one gradient for all.
    back = Backward(worker, tape, lookup, deltas, sums, clock)
    update = shared_update(back, batch.step)
    private_norm = vector_norm(worker.private_gradient)
    private_clip = clip_factor(private_norm, training.gradient_clip_norm)
    skip = ~(update.finite & private_norm.isfinite())
    clock.lap("deconflict")

    # Everything moves, or, where something is not finite, nothing.
    before = worker.shared.vector.clone() if _measured(worker, update, batch.step) else None
    private_gradient = worker.private_gradient * private_clip.to(losses.dtype)
    worker.optimizer.step(
        update.gradients,
        update.coefficients,
        private_gradient,
        skip=skip,
        factor=factor,
    )
    if worker.tables is not None and lookup is not None and update.tables is not None:
        worker.tables.update(lookup, [torch.where(skip, 0.0, g) for g in update.tables])
    clock.lap("optimizer")
    record = _record(back, losses, update, before, skip, row_counts, stop_votes)
    return record, tape.logits.detach()


def evaluate(worker: Worker, manifest: Manifest) -> dict[str, dict[str, float]]:
    """AUC, log-loss, calibration and label counts of each task over a whole log.

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
            logits = worker.forward(worker.look_up(batch), batch.dense, []).logits
            histogram.update(logits, batch.labels, batch.label_mask)
            sums.update(logits, batch.labels, batch.label_mask)
    auc = auc_from_histogram(all_reduce_sum(histogram.state())).tolist()
    summary = summarise_binary(all_reduce_sum(sums.state()))
    columns = {
        "auc": auc,
        "log_loss": summary.log_loss.tolist(),
        "calibration": summary.calibration.tolist(),
    } | {
        name: [int(count) for count in getattr(summary, name).tolist()]
        for name in ("positives", "rows", "not_finite")
    }
    return {
        task: {name: values[place] for name, values in columns.items()}
        for place, task in enumerate(worker.config.task_names)
    }


def _count(batch: ClickBatch, stop: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Over all workers: [T] labelled rows, [1 + R] rows and rejected rows, [1] votes to stop."""
    labelled = batch.label_mask.sum(dim=0, dtype=batch.counts.dtype)
    vote = batch.counts.new_full((1,), float(stop))
    # float32 counts are exact up to 2^24 rows of a batch.
    counts = all_reduce_sum(torch.cat([labelled, batch.counts, vote]))
    labels, rows, votes = torch.split(counts, [len(labelled), len(batch.counts), 1])
    return labels, rows, votes


def _measured(worker: Worker, update: SharedUpdate, step: int) -> bool:
    """Whether this step compares what the bottom really moved by with the tasks' gradients.

    The last step of a log interval does, or the last that has a gradient a task.
    """
    method, interval = worker.config.method, worker.config.training.log_interval_steps
    until_next = method.refresh_interval_steps if isinstance(method, GradOPS) else 1
    last = step // interval < (step + until_next) // interval
    return last and update.bottom_gram is not None


def _record(
    back: Backward,
    losses: Tensor,
    update: SharedUpdate,
    before: Tensor | None,
    skip: Tensor,
    row_counts: Tensor,
    stop_votes: Tensor,
) -> StepRecord:
    worker = back.worker
    dense = back.sums.bytes if worker.context.world_size > 1 else 0
    tables = {} if back.lookup is None else back.lookup.bytes_sent
    applied = torch.full_like(update.decision.weights, torch.nan)
    if before is not None and update.bottom_gram is not None:
        moved = worker.shared.vector - before
        applied = descent_cosines(update.gradients, update.bottom_gram, moved)
    return StepRecord(
        losses=losses,
        decision=update.decision,
        skipped=skip,
        opposes=update.opposes,
        update_norm=update.norm,
        applied=applied,
        rows=row_counts,
        stop_votes=stop_votes,
        seconds=back.clock.seconds,
        bytes_sent=dict.fromkeys(BYTE_KINDS, 0) | tables | {"dense_gradients": dense},
    )


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
    reporter.load(
        tensors["reporter"],
        facts.totals,
        facts.evaluation,
        facts.window_steps,
        facts.saved_at,
    )
    return facts.step


def _save(worker: Worker, reporter: Reporter, job: TrainJob, step: int) -> None:
    reporter.report(step)
    reporter.flush()
    reporter.totals.checkpoints += 1
    facts = checkpoint.Facts(
        step=step,
        saved_at=time.time(),
        config=job.config,
        data_digest=job.train.digest,
        sharding_plan=worker.tables.plan if worker.tables is not None else {},
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
        "sharding": facts.sharding_plan,
    }
    saved = checkpoint.save(tensors, facts, metrics | {"totals": reporter.totals.to_json()})
    reporter.checkpointed(saved)
