"""The layers and tables in which a run counts its tasks' conflicts (Recon)."""

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.data.features import table_sizes
from recsys_mtl.metrics.columns import TABLE_PREFIX
from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.model.bodies.contract import MultiTaskBody
from recsys_mtl.worker.body import traced_body


def counted_layers(config: RunConfig, body: MultiTaskBody) -> tuple[str, ...]:
    """The names of the shared layers of the body and of the tables, in the order of their Grams.

    Empty for a run without the section `recon`.

    Raises:
        UserError: the run is to count conflicts and its tasks share nothing.
    """
    if config.recon is None:
        return ()
    tables = (f"{TABLE_PREFIX}{owner}" for owner in table_sizes(config.data))
    names = (*body.shared_layers(), *tables)
    if not names:
        raise UserError(
            f"recon counts conflicts in what tasks share, and the body {type(body).__name__} "
            "shares no layer, beside which there are no embedding tables; remove recon"
        )
    return names


def counted_layers_of_run(config: RunConfig, make: BodyFactory | None) -> tuple[str, ...]:
    """The same for a run whose workers are not started yet.

    Args:
        make: makes a body of one's own, instead of the one that `model` describes.

    Raises:
        UserError: as above, or the body's declarations contradict its graph.
    """
    return () if config.recon is None else counted_layers(config, traced_body(config, make)[0])
