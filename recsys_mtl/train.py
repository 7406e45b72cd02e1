"""Training, from top to bottom: one batch from Parquet rows to table updates.

B rows of this worker's batch, E columns of all pooled embeddings, T tasks, P shared parameters of
the body, H parameters of the tasks' own; O rows of gradients, one per task or one for all.
"""

import time

from torch import Tensor

from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.distributed.collectives import PendingSums
from recsys_mtl.gradients.combination import clip_factor, vector_norm
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.metrics.record import StepRecord
from recsys_mtl.model.losses import task_losses
from recsys_mtl.worker.build import build
from recsys_mtl.worker.checkpoint import earlier_plan, restore_run, save_run
from recsys_mtl.worker.counts import GlobalCounts, count_globally
from recsys_mtl.worker.evaluation import evaluate, stream_of
from recsys_mtl.worker.evidence import products_of_tasks, weigh_beforehand, weigh_by_products
from recsys_mtl.worker.host import RunHost
from recsys_mtl.worker.job import TrainJob
from recsys_mtl.worker.recording import bytes_sent, measured_before, record_of_step
from recsys_mtl.worker.reporting import Reporter
from recsys_mtl.worker.shared_gradients import backward_through_trunk, combine
from recsys_mtl.worker.state import Worker


def train_run(host: RunHost, job: TrainJob) -> None:
    """One worker, from its start or the run's last checkpoint to the end."""
    source = host.last_checkpoint()
    worker = build(
        job.config,
        host.context,
        job.train,
        earlier_plan(source, job.config),
        body=job.body,
        method=job.method,
    )
    reporter = Reporter(worker, host.feed, job)
    step = restore_run(source, worker, reporter, job)
    reporter.begin()
    first_step, step = step, _train(host, worker, reporter, job, step)
    if step > first_step or reporter.best.stops_at(step):
        save_run(host, worker, reporter, job, step)  # safe before anything else can go wrong
    if step == job.last_step:
        reporter.evaluated(step, evaluate(worker.model, job.eval))
        save_run(host, worker, reporter, job, step)
    reporter.close()


def _train(host: RunHost, worker: Worker, reporter: Reporter, job: TrainJob, step: int) -> int:
    """Train from `step` until the end, until the run is asked to stop, or until patience with it
    ends; returns the last step."""
    training, best = job.config.training, reporter.best
    if best.stops_at(step):
        return step
    votes_before: Tensor | None = None
    with stream_of(worker.model, job.train, worker.plan, step, job.last_step) as batches:
        waiting_since = time.perf_counter()
        for batch in batches:
            clock = PhaseClock(data_wait_seconds=time.perf_counter() - waiting_since)
            on_device = batch.to(worker.context.device)
            counts = count_globally(on_device, stop_asked=host.feed.stop_asked())
            record, logits = train_step(worker, on_device, counts, clock)
            reporter.add(on_device, record, logits)
            step = batch.step + 1
            # Every worker sees the same votes at the same step. Those of the step before, which
            # a device has counted by now: nobody waits for this one.
            if votes_before is not None and bool(votes_before > 0):
                break
            votes_before = counts.stop_votes
            if _due(step, training.log_interval_steps):
                reporter.report(step)
            if _due(step, training.evaluation_interval_steps) and step < job.last_step:
                reporter.report(step)  # first: an evaluation is no training time
                reporter.evaluated(step, evaluate(worker.model, job.eval))
                reporter.restart_clock()
                if best.stops_at(step):
                    break
            checkpoint_due = _due(step, training.checkpoint_interval_steps)
            if (checkpoint_due or best.has_evaluated(step)) and step < job.last_step:
                save_run(host, worker, reporter, job, step)
                reporter.restart_clock()
            waiting_since = time.perf_counter()
    reporter.report(step)
    return step


def train_step(
    worker: Worker, batch: ClickBatch, counts: GlobalCounts, clock: PhaseClock
) -> tuple[StepRecord, Tensor]:
    """One batch, from its rows to the updates it makes; returns what to remember and the logits.

    Every worker calls it with its part of the same global batch, and with the same counts.
    """
    training, mode, sums = worker.config.training, worker.mode(batch.step), PendingSums()
    factor = worker.learning_rate_factor(batch.step)
    clock.lap("communication")

    # Ids to pooled embeddings to the representation, where the tasks part, to logits to losses.
    lookup = worker.model.look_up(batch, learning_rate_factor=factor)  # pooled [B, E]
    forward = worker.model.forward(lookup, batch.dense, worker.dropout_masks(batch.step))
    losses = worker.loss_weights * task_losses(  # [T]
        forward.logits, batch.labels, batch.label_mask, counts.weights, batch.label_weights
    )
    clock.lap("forward")

    # Each loss back to the representation. What belongs to one task has its own loss's gradient.
    tasks = forward.backward_to_representation(losses)
    weighed = weigh_beforehand(worker, mode, counts, losses, tasks)
    own_gradient = sums.add(worker.write_task_specific(tasks))  # [H]
    losses = sums.add(losses.detach())

    # From there down to where the shards lie, at which the graph is cut: one row of gradients per
    # task, or, where the weights are known already, one for their combination.
    combine_by = None if weighed is None or mode.row_per_task else weighed.weighting
    shared = backward_through_trunk(  # rows [O, P]
        worker, forward, tasks, sums, combine_by, tables_apart=mode.searches
    )
    clock.lap("backward")
    at_shards = worker.to_shards(lookup, shared.pooled)
    sums.wait()
    clock.lap("communication")

    # The rows' products, what each task counts by them, and the one gradient that comes of it.
    products = products_of_tasks(worker, mode, lookup, shared.rows, at_shards)
    if weighed is None:
        weighed = weigh_by_products(worker, mode, counts, losses, products)
    update = combine(worker, forward, lookup, shared, at_shards, weighed.weighting, products)
    clip = clip_factor(update.norm, training.gradient_clip_norm)
    own_norm = vector_norm(own_gradient)
    own_gradient = clip_factor(own_norm, training.gradient_clip_norm) * own_gradient
    skip = ~(weighed.finite & update.finite & own_norm.isfinite())
    clock.lap("deconflict")

    # Everything moves and is remembered, or, where something is not finite, nothing.
    before = measured_before(worker, mode, weighed, products)
    worker.weigher.commit(weighed, skip)
    coefficients = clip * update.coefficients
    worker.optimizer.step(update.rows, coefficients, own_gradient, skip=skip, factor=factor)
    worker.update_tables(lookup, update.tables, clip=clip, skip=skip)
    clock.lap("optimizer")
    sent = bytes_sent(worker, lookup, sums, table_exchanges=max(1, len(at_shards)))
    record = record_of_step(
        worker, counts, losses, before, update, clip=clip, skipped=skip, clock=clock, sent=sent
    )
    return record, forward.logits.detach()


def _due(step: int, interval: int | None) -> bool:
    return interval is not None and step % interval == 0
