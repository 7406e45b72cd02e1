"""The whole of a log, scored by the model as it is."""

import torch

from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.plan import Plan, plan_of
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.distributed.collectives import all_reduce_sum
from recsys_mtl.metrics.auc import AucHistogram, BinarySums, auc_from_histogram, summarise_binary
from recsys_mtl.worker.model import DistributedModel


def stream_of(
    model: DistributedModel, manifest: Manifest, plan: Plan, first: int, last: int
) -> BatchStream:
    """This worker's batches of steps `first` to `last` (exclusive) of a log."""
    return BatchStream(
        manifest,
        plan,
        model.config.data,
        rank=model.context.rank,
        world_size=model.context.world_size,
        first_step=first,
        last_step=last,
    )


def evaluate(model: DistributedModel, manifest: Manifest) -> dict[str, dict[str, float]]:
    """AUC, log-loss, calibration and label counts of each task over a whole log.

    Its forward is collective, too: every worker makes the same padded steps.
    """
    num_tasks, device = len(model.config.task_names), model.context.device
    histogram = AucHistogram(num_tasks, device, weighted=model.config.data.weighs_rows)
    sums = BinarySums(num_tasks, device)
    plan = plan_of(
        manifest,
        model.config.data,
        global_batch_size=model.config.training.global_batch_size,
        seed=None,
    )
    with (
        torch.no_grad(),
        stream_of(model, manifest, plan, 0, plan.steps_per_epoch) as batches,
    ):
        for batch in (b.to(device) for b in batches):
            logits = model.score(batch)
            histogram.update(logits, batch.labels, batch.label_mask, batch.label_weights)
            sums.update(logits, batch.labels, batch.label_mask, batch.label_weights)
    auc = auc_from_histogram(all_reduce_sum(histogram.state())).tolist()
    summary = summarise_binary(all_reduce_sum(sums.state()))
    columns = {
        "auc": auc,
        "log_loss": summary.log_loss.tolist(),
        "calibration": summary.calibration.tolist(),
        "weight": summary.weight.tolist(),
    } | {
        name: [int(count) for count in getattr(summary, name).tolist()]
        for name in ("positives", "rows", "not_finite")
    }
    return {
        task: {name: values[place] for name, values in columns.items()}
        for place, task in enumerate(model.config.task_names)
    }
