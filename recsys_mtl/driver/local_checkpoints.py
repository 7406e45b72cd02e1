"""Checkpoints of a run that trains in its driver's process.

Each one is a folder with a number of its own. A checkpoint is committed when the index names it; no
other is ever read. The index is a small file that is replaced at once, so a process may be killed
at any moment.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from recsys_mtl.config import UserError
from recsys_mtl.driver.storage import Folder
from recsys_mtl.driver.stored_checkpoint import StoredCheckpoint

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
        self._names = _read_index(self._folder)
        self._remove_others()

    def newest(self) -> StoredCheckpoint | None:
        """Return the newest committed checkpoint; None before the first."""
        return StoredCheckpoint(self._folder, self._names[-1]) if self._names else None

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


def _read_index(folder: Folder) -> Sequence[str]:
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
