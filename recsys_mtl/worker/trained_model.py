"""A trained model, loaded from its checkpoint."""

from recsys_mtl.config import UserError
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.worker.body import refuse_another_body
from recsys_mtl.worker.build import build_model
from recsys_mtl.worker.checkpoint import earlier_plan
from recsys_mtl.worker.checkpoint_metadata import read_metadata
from recsys_mtl.worker.job import TrainedModel
from recsys_mtl.worker.model import DistributedModel
from recsys_mtl.worker.named_tensors import load_matching


def load_model(trained: TrainedModel, context: WorkerContext) -> DistributedModel:
    """The model as its checkpoint holds it; every worker calls it.

    Raises:
        UserError: the checkpoint does not hold all of it.
    """
    config = trained.config
    plan = earlier_plan(trained.source, config)
    model = build_model(config, context, plan, body=trained.body)
    refuse_another_body(model.body, read_metadata(trained.source))
    with trained.source.as_folder() as folder:
        report = load_matching(model.state_dict(), folder)
    missing = [*report.new, *(other.name for other in report.other_shape)]
    if missing:
        raise UserError(
            f"the checkpoint of run {config.run.name!r} does not hold this model ({missing[0]}, "
            f"and {len(missing) - 1} more); a run with a body of one's own is scored from Python, "
            "with the same body"
        )
    return model
