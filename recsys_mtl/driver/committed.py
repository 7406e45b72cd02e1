"""Which checkpoints of a run are committed, by either index, read without Ray.

Ray Train keeps one index and a driver that trains in its own process the other; `run_folder.py`
describes both.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from recsys_mtl.config import UserError
from recsys_mtl.driver.storage import Folder

LOCAL_INDEX = "local_checkpoints.json"
"""The index of a run that trains in its driver's process."""
RAY_INDEX = "checkpoint_manager_snapshot.json"
"""Ray Train's index."""
RAY_NO_SCORE = -sys.float_info.max
"""The score that Ray Train is told of a checkpoint without one: Ray's index has null for NaN and
for infinity, with which it cannot go on, and a score that is left out is an error in its log."""


@dataclass(frozen=True)
class CommittedCheckpoint:
    """One line of an index."""

    name: str
    """Its folder in the run's."""
    step: int
    """Finished steps."""
    score: float | None = None
    """The larger, the better; None for one that was not saved right after an evaluation, and where
    the evaluation had no score."""
    scored_by: str | None = None
    """What the score measures, on which log. Scores of different measures do not compare."""


def checkpoints_of(folder: Folder) -> list[CommittedCheckpoint]:
    """The committed checkpoints in a run's folder, oldest first; none where there is no index.

    The scores can be compared with each other: one that was measured otherwise than the newest
    checkpoint's, as `training.best_by` or data.eval has changed since, counts as none.

    Raises:
        UserError: the index is damaged, or the storage cannot be used.
    """
    ray_index = folder.read(RAY_INDEX)
    found = read_local_index(folder) if ray_index is None else _of_ray(folder, ray_index)
    return comparable(found)


def best_of(checkpoints: Sequence[CommittedCheckpoint]) -> CommittedCheckpoint | None:
    """The one with the largest score, of equals the newest; None where none has a score.

    Args:
        checkpoints: as `checkpoints_of` returns them.
    """
    scored = [(c.score, place) for place, c in enumerate(checkpoints) if c.score is not None]
    return checkpoints[max(scored)[1]] if scored else None


def comparable(checkpoints: Sequence[CommittedCheckpoint]) -> list[CommittedCheckpoint]:
    """The same, without the scores that were measured otherwise than the newest one's."""
    newest = checkpoints[-1].scored_by if checkpoints else None
    return [c if c.scored_by == newest else replace(c, score=None) for c in checkpoints]


def read_local_index(folder: Folder) -> list[CommittedCheckpoint]:
    """What the index of a run in its driver's process holds; nothing where there is none.

    Raises:
        UserError: the index is damaged, or the storage cannot be used.
    """
    content = folder.read(LOCAL_INDEX)
    if content is None:
        return []
    try:
        return [_of_entry(folder, entry) for entry in json.loads(content)["checkpoints"]]
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(folder, LOCAL_INDEX, error) from None


def local_index(checkpoints: Sequence[CommittedCheckpoint]) -> bytes:
    """The content of the index, for `read_local_index`."""
    return json.dumps({"checkpoints": [vars(c) for c in checkpoints]}, allow_nan=False).encode()


def _of_entry(folder: Folder, entry: Any) -> CommittedCheckpoint:
    if isinstance(entry, str):  # earlier versions kept names alone
        return CommittedCheckpoint(entry, int(json.loads(_metadata(folder, entry))["step"]))
    return CommittedCheckpoint(
        str(entry["name"]), int(entry["step"]), entry["score"], entry["scored_by"]
    )


def _metadata(folder: Folder, name: str) -> bytes:
    content = folder.read(f"{name}/run.json")
    if content is None:
        raise UserError(
            f"{folder.url}/{name} is committed, but run.json is missing there; restore it, choose "
            "another run.name, or start anew with --fresh"
        )
    return content


def _of_ray(folder: Folder, content: bytes) -> list[CommittedCheckpoint]:
    """Ray Train sorts by score: what tells the newest is its number of the report."""
    try:
        index = json.loads(content)
        pairs = zip(index["checkpoint_report_indices"], index["checkpoint_results"], strict=True)
        return [_of_report(found) for _, found in sorted(pairs, key=lambda pair: int(pair[0]))]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise _damaged(folder, RAY_INDEX, error) from None


def _of_report(found: Any) -> CommittedCheckpoint:
    metrics = found["metrics"]
    scored_by, score = next(iter(metrics.get("scores", {}).items()), (None, RAY_NO_SCORE))
    known = None if score == RAY_NO_SCORE else float(score)
    return CommittedCheckpoint(
        str(found["checkpoint_dir_name"]), int(metrics["step"]), known, scored_by
    )


def _damaged(folder: Folder, name: str, error: Exception) -> UserError:
    return UserError(
        f"{folder.url}/{name} is damaged ({error!r}); choose another run.name, or start anew with "
        "--fresh"
    )
