"""The run that `run.warm_start` names, found and held against the new one before workers start."""

from pathlib import Path, PurePosixPath

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.driver.run_folder import RunFolder
from recsys_mtl.driver.trained_run import open_run
from recsys_mtl.worker.job import FirstValues
from recsys_mtl.worker.same_meaning import refuse_other_meanings


def first_values(
    folder: RunFolder, config: RunConfig, train: Manifest, *, fresh: bool
) -> FirstValues | None:
    """What the run begins from; None for one that goes on, or begins with random values.

    Args:
        folder: of the new run.
        train: of data.train.
        fresh: whether an earlier run of the name is about to be deleted.

    Raises:
        UserError: there is no such run, it is this one, or names mean something else there.
    """
    settings = config.run.warm_start
    if settings is None or (not fresh and folder.newest_checkpoint() is not None):
        return None
    found = open_run(settings.source, settings.checkpoint, named="run.warm_start.from")
    if lies_in(found.url, folder.url):
        raise UserError(
            f"run.warm_start.from is {settings.source}, the run itself or a place in its folder; "
            "give another run.name"
        )
    refuse_other_meanings(
        config,
        found.config,
        settings,
        train.column_families,
        found.metadata.column_families,
    )
    name = f"{found.url} ({found.checkpoint.name})"
    return FirstValues(found.source, name, found.checkpoint.step, found.config)


def lies_in(url: str, folder_url: str) -> bool:
    """Whether one URL is a place in the folder of another, however they are spelled.

    A path, a path with a link in it and a `file://` URL may name one folder, and `--fresh` would
    delete it before it is read.
    """
    (filesystem, place), (own, folder) = _place(url), _place(folder_url)
    return filesystem == own and place.is_relative_to(folder)


def _place(url: str) -> tuple[AbstractFileSystem, PurePosixPath]:
    """The file system, and the path there without links and trailing slashes."""
    filesystem, path = url_to_fs(url)
    if isinstance(filesystem, LocalFileSystem):
        path = Path(path).resolve().as_posix()
    return filesystem, PurePosixPath(path)
