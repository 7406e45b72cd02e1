"""A committed checkpoint in a run's folder, read without the host that wrote it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys_mtl.config import UserError
from recsys_mtl.driver.storage import Folder


class StoredCheckpoint:
    """Reads a committed checkpoint where it lies; see `CheckpointSource`.

    Any process may, whoever wrote it: both hosts keep a checkpoint as a folder in the run's folder.
    """

    def __init__(self, run_folder: Folder, name: str) -> None:
        self._run_folder, self._name = run_folder, name

    def read(self, name: str) -> bytes:
        """Return the content of one small file.

        Raises:
            UserError: the checkpoint has no such file.
        """
        content = self._run_folder.read(f"{self._name}/{name}")
        if content is None:
            raise UserError(
                f"{self._run_folder.url}/{self._name} is committed, but {name} is missing there; "
                "restore it, choose another run.name, or start anew with --fresh"
            )
        return content

    @contextmanager
    def as_folder(self) -> Iterator[Path]:
        """Give the path of the whole checkpoint on this machine, while the context lasts."""
        with self._run_folder.on_this_machine(self._name) as folder:
            yield folder
