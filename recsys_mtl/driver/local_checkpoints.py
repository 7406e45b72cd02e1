"""Checkpoints of a run that trains in its driver's process.

Each one is a folder with a number of its own. A checkpoint is committed when the index names it; no
other is ever read. The index is a small file that is replaced at once, so a process may be killed
at any moment.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recsys_mtl.config import UserError
from recsys_mtl.driver.storage import Folder

INDEX = "local_checkpoints.json"
"""The index in a run's folder; it holds `{"checkpoints": [names, oldest first]}`."""

_PREFIX = "local_checkpoint_"
_KEPT = 2


class LocalCheckpoints:
    """Writes, finds and removes the checkpoints of one run, which nobody else writes meanwhile."""

    def __init__(self, run_url: str) -> None:
        """Read the index, and remove whatever a killed process has left beside it.

        Raises:
            UserError: the index is damaged, or the storage cannot be used.
        """
        self._folder = Folder(run_url)
        self._names = committed(self._folder)
        self._remove_others()

    def newest(self) -> "LocalCheckpoint | None":
        """Return the newest committed checkpoint; None before the first."""
        return LocalCheckpoint(self._folder, self._names[-1]) if self._names else None

    def commit(self, write: Callable[[Path], None]) -> int:
        """Have a checkpoint written into an empty folder, commit it, and return its bytes.

        The one before it is kept, too, and older ones are removed.
        """
        last = int(self._names[-1].removeprefix(_PREFIX)) if self._names else 0
        name = f"{_PREFIX}{last + 1:06d}"
        with self._folder.new_folder(name) as place:
            write(place)
            size_bytes = sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
        names = [*self._names, name][-_KEPT:]
        self._folder.write(INDEX, json.dumps({"checkpoints": names}).encode())
        self._names = names
        self._remove_others()
        return size_bytes

    def _remove_others(self) -> None:
        for name in self._folder.names():
            if name.lstrip(".").startswith(_PREFIX) and name not in self._names:
                self._folder.remove_folder(name)


class LocalCheckpoint:
    """Reads one committed checkpoint; see `CheckpointSource`."""

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


def committed(folder: Folder) -> Sequence[str]:
    """Names of the committed checkpoints in a run's folder, oldest first.

    Raises:
        UserError: the index is damaged.
    """
    content = folder.read(INDEX)
    if content is None:
        return []
    try:
        return [str(name) for name in json.loads(content)["checkpoints"]]
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{folder.url}/{INDEX} is damaged ({error!r}); choose another run.name, or start anew "
            "with --fresh"
        ) from None
