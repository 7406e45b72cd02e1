"""What workers would refuse, said before any is started: Ray takes half a minute to begin."""

from recsys_mtl.config import RunConfig
from recsys_mtl.gradients.methods.contract import Method
from recsys_mtl.gradients.operations import operations_of
from recsys_mtl.metrics.columns import trace_columns
from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.worker.body import backend_on, refuse_what_does_not_fit, traced_body
from recsys_mtl.worker.counted_layers import counted_layers_of_run
from recsys_mtl.worker.methods import method_of


def refuse_before_workers(
    config: RunConfig, *, body: BodyFactory | None, method: Method | None
) -> None:
    """Nothing, as far as this process can see that workers will train the run.

    What depends on their machines, such as room for the tables, only they can tell.

    Args:
        body: makes a body of one's own, instead of the one that `model` describes.
        method: one's own, instead of the one that `method` describes.

    Raises:
        UserError: they will refuse it.
    """
    if config.cluster.device != "auto":
        backend_on(config.cluster.device, config)
    used = method_of(config, operations_of("torch")) if method is None else method
    trace_columns(config.task_names, used.diagnostics, counted_layers_of_run(config, body))
    if body is not None or method is not None:  # what is configured, the configuration has checked
        refuse_what_does_not_fit(config, used, *traced_body(config, body))
