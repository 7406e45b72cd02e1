"""Checkpoints of a run that trains in its driver's process.

Each one is a folder with a number of its own. A checkpoint is committed when the index names it; no
other is ever read. The index is a small file that is replaced at once, so a process may be killed
at any moment.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from recsys_mtl.driver.committed import (
    LOCAL_INDEX,
    CommittedCheckpoint,
    comparable,
    local_index,
    read_local_index,
)
from recsys_mtl.driver.storage import Folder
from recsys_mtl.driver.stored_checkpoint import StoredCheckpoint

_PREFIX = "local_checkpoint_"


class LocalCheckpoints:
    """Writes, finds and removes the checkpoints of one run, which nobody else writes meanwhile."""

    def __init__(self, run_url: str, kept: int = 2) -> None:
        """Read the index, and remove whatever a killed process has left beside it.

        Args:
            kept: `training.checkpoints_kept`.

        Raises:
            UserError: the index is damaged, or the storage cannot be used.
        """
        self._folder, self._kept = Folder(run_url), kept
        self._committed = read_local_index(self._folder)
        self._remove_others()

    def newest(self) -> StoredCheckpoint | None:
        """Return the newest committed checkpoint; None before the first."""
        return StoredCheckpoint(self._folder, self._committed[-1].name) if self._committed else None

    def commit(
        self, write: Callable[[Path], None], *, step: int, scores: Mapping[str, float]
    ) -> int:
        """Have a checkpoint written into an empty folder, commit it, and return its bytes.

        Others are kept as `those_to_keep` says, and removed.

        Args:
            scores: what is measured to its value, larger being better and NaN not known; at most
                one, and none where checkpoints are not compared.
        """
        last = int(self._committed[-1].name.removeprefix(_PREFIX)) if self._committed else 0
        name = f"{_PREFIX}{last + 1:06d}"
        with self._folder.new_folder(name) as place:
            write(place)
            size_bytes = sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
        scored_by, score = next(iter(scores.items()), (None, math.nan))
        known = None if math.isnan(score) else score
        committed = [*self._committed, CommittedCheckpoint(name, step, known, scored_by)]
        committed = those_to_keep(committed, self._kept)
        self._folder.write(LOCAL_INDEX, local_index(committed))
        self._committed = committed
        self._remove_others()
        return size_bytes

    def _remove_others(self) -> None:
        names = {checkpoint.name for checkpoint in self._committed}
        for name in self._folder.names():
            if name.lstrip(".").startswith(_PREFIX) and name not in names:
                self._folder.remove_folder(name)


def those_to_keep(
    checkpoints: Sequence[CommittedCheckpoint], number: int
) -> list[CommittedCheckpoint]:
    """The best `number` of them, and the newest besides; in their order, which is by age.

    Those that have no score come after all that have one, the newest of them first. Ray Train
    keeps by the same rule.

    Args:
        checkpoints: oldest first, at least one.
    """
    scores = [-math.inf if c.score is None else c.score for c in comparable(checkpoints)]
    places = range(len(checkpoints))
    best = sorted(places, key=lambda place: (scores[place], place))[-number:]
    return [checkpoints[place] for place in places if place in best or place == places[-1]]
