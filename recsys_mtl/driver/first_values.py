"""The run that `run.warm_start` names, found and held against the new one before workers start."""

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.driver.run_folder import RunFolder
from recsys_mtl.driver.trained_run import open_run
from recsys_mtl.worker.inherited import refuse_other_tables
from recsys_mtl.worker.job import FirstValues


def first_values(
    folder: RunFolder, config: RunConfig, train: Manifest, *, fresh: bool
) -> FirstValues | None:
    """What the run begins from; None for one that goes on, or begins with random values.

    Args:
        folder: of the new run.
        train: of data.train.
        fresh: whether an earlier run of the name is about to be deleted.

    Raises:
        UserError: there is no such run, or its tables do not fit.
    """
    settings = config.run.warm_start
    if settings is None or (not fresh and folder.newest_checkpoint() is not None):
        return None
    found = open_run(settings.source, settings.checkpoint, named="run.warm_start.from")
    if found.url == folder.url:
        raise UserError(
            f"run.warm_start.from is {settings.source}, the run itself; give another run.name"
        )
    refuse_other_tables(
        config,
        found.config,
        settings,
        train.column_families,
        found.metadata.column_families,
    )
    name = f"{found.url} ({found.checkpoint.name})"
    return FirstValues(found.source, name, found.checkpoint.step, found.config)
