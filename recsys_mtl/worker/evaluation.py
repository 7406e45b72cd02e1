"""The whole of a log, scored by the model as it is.

B rows of this worker's batch, T tasks.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.plan import Plan, plan_of
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.distributed.collectives import all_reduce_sum
from recsys_mtl.metrics.auc import AucHistogram, BinarySums, auc_from_histogram, summarise_binary
from recsys_mtl.worker.model import DistributedModel

Evaluation = dict[str, dict[str, float]]
"""Task to its numbers by name."""


def stream_of(
    model: DistributedModel,
    manifest: Manifest,
    plan: Plan,
    first: int,
    last: int,
    key_columns: Sequence[str] = (),
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
        key_columns=key_columns,
    )


def evaluate(model: DistributedModel, manifest: Manifest) -> Evaluation:
    """AUC, log-loss, calibration and label counts of each task over a whole log."""
    sums = EvaluationSums(model)
    for batch, logits in scored_batches(model, manifest, evaluation_plan(model, manifest)):
        sums.add(batch, logits)
    return sums.evaluation()


def evaluation_plan(model: DistributedModel, manifest: Manifest) -> Plan:
    """How a log that is judged is cut into steps: in the order of the files, each row once."""
    return plan_of(
        manifest,
        model.config.data,
        global_batch_size=model.config.training.global_batch_size,
        seed=None,
    )


def scored_batches(
    model: DistributedModel, manifest: Manifest, plan: Plan, key_columns: Sequence[str] = ()
) -> Iterator[tuple[ClickBatch, Tensor]]:
    """This worker's batches of a log, each with its logits [B, T].

    The forward is collective, so every worker makes the same padded steps.
    """
    with stream_of(model, manifest, plan, 0, plan.steps_per_epoch, key_columns) as batches:
        for batch in (b.to(model.context.device) for b in batches):
            yield batch, model.score(batch)


class EvaluationSums:
    """Sums over rows, from which every task's numbers follow."""

    def __init__(self, model: DistributedModel) -> None:
        self._tasks, device = model.config.task_names, model.context.device
        weighted = model.config.data.weighs_rows
        self._histogram = AucHistogram(len(self._tasks), device, weighted=weighted)
        self._sums = BinarySums(len(self._tasks), device)

    def add(self, batch: ClickBatch, logits: Tensor) -> None:
        """Count a batch, whose logits are [B, T]."""
        self._histogram.update(logits, batch.labels, batch.label_mask, batch.label_weights)
        self._sums.update(logits, batch.labels, batch.label_mask, batch.label_weights)

    def evaluation(self) -> Evaluation:
        """The numbers over all workers' rows; every worker calls it."""
        auc = auc_from_histogram(all_reduce_sum(self._histogram.state())).tolist()
        summary = summarise_binary(all_reduce_sum(self._sums.state()))
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
            for place, task in enumerate(self._tasks)
        }
