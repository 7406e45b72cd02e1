"""Named tensors on disk: what is there, what is wanted, and a load of what is in both.

torch.distributed.checkpoint loads a part of a checkpoint without a word about the rest, so the
report is made here, from the checkpoint's own metadata, before anything is read.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from recsys_mtl.distributed.collectives import gathered

Found = TypeVar("Found")


@dataclass(frozen=True)
class OtherShape:
    """A name that is in both places, with different shapes."""

    name: str
    saved: tuple[int, ...]
    wanted: tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """How the names of a checkpoint and of what would load it compare."""

    matched: tuple[str, ...]
    """In both, with one shape."""
    new: tuple[str, ...]
    """Wanted, and not in the checkpoint. Like those above, by the names of what is wanted."""
    dropped: tuple[str, ...]
    """In the checkpoint, by its names, and not wanted."""
    other_shape: tuple[OtherShape, ...]

    @property
    def is_complete(self) -> bool:
        """Whether everything is in both, with one shape."""
        return not (self.new or self.dropped or self.other_shape)


class CheckpointError(Exception):
    """A checkpoint cannot be written or read."""


def save_tensors(tensors: Mapping[str, Any], folder: Path) -> None:
    """Write this worker's part; every worker calls it with the same names.

    Args:
        tensors: one flat mapping: names hold dots, and keys that nest beside them would collide.
            Sharded tensors hold the worker's own shards, all others are the same everywhere.

    Raises:
        CheckpointError: a worker's part cannot be written.
    """
    with _ordinary_errors("written"):
        save(dict(tensors), checkpoint_id=folder)


def compare_tensors(
    wanted: Mapping[str, Any], folder: Path, saved_as: Mapping[str, str | None] | None = None
) -> LoadReport:
    """What a load of `wanted` from a checkpoint's folder would find.

    Args:
        saved_as: for each name of `wanted`, the name it has in the checkpoint; None for one that is
            not there, whatever the checkpoint holds. Left out, names are the same.

    Raises:
        CheckpointError: the checkpoint does not say what it holds.
    """
    try:
        found = FileSystemReader(folder).read_metadata().state_dict_metadata
    except Exception as error:  # unpickling damaged bytes raises whatever they say
        raise CheckpointError(f"a checkpoint's .metadata cannot be read: {error!r}") from error
    saved = {
        name: tuple(entry.size)
        for name, entry in found.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    shapes = {name: tuple(tensor.size()) for name, tensor in wanted.items()}
    names = {name: name if saved_as is None else saved_as[name] for name in shapes}
    both = {name: saved[there] for name, there in names.items() if there in saved}
    taken = set(names.values())
    return LoadReport(
        matched=tuple(name for name, shape in both.items() if shapes[name] == shape),
        new=tuple(name for name in shapes if name not in both),
        dropped=tuple(name for name in saved if name not in taken),
        other_shape=tuple(
            OtherShape(name, shape, shapes[name])
            for name, shape in both.items()
            if shapes[name] != shape
        ),
    )


def load_matching(
    wanted: Mapping[str, Any], folder: Path, saved_as: Mapping[str, str | None] | None = None
) -> LoadReport:
    """Load what is in both, in place, whatever the sharding was; every worker calls it.

    Args:
        saved_as: names in the checkpoint, as `compare_tensors` takes them.

    Returns:
        What was loaded by all workers together, and what was not: the same on each of them.

    Raises:
        CheckpointError: a worker's part cannot be read.
    """
    own = compare_tensors(wanted, folder, saved_as)
    report = _put_together(gathered(own))
    if report.matched:
        found = {(saved_as or {}).get(name) or name: wanted[name] for name in own.matched}
        with _ordinary_errors("read"):
            load(found, checkpoint_id=folder)
    return report


def load_alone(wanted: Mapping[str, Any], folder: Path) -> None:
    """Load tensors that are in the checkpoint, in place and whole, without other workers.

    Raises:
        CheckpointError: they cannot be read.
    """
    with _ordinary_errors("read"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # which is meant
        load(dict(wanted), checkpoint_id=folder, no_dist=True)


@contextmanager
def _ordinary_errors(what: str) -> Iterator[None]:
    """Raise torch's error as one that `except Exception` catches, which its own is not."""
    try:
        yield
    except CheckpointException as error:
        workers = (f"worker {rank}: {cause!r}" for rank, (cause, _) in error.failures.items())
        raise CheckpointError(f"a checkpoint cannot be {what}: {'; '.join(workers)}") from error


def _put_together(reports: Sequence[LoadReport]) -> LoadReport:
    """Make one report of all workers'.

    A table's optimizer state is wanted by the workers that hold a part of the table, and by no
    other: dropped is what no worker wants.
    """
    first, *others = reports
    return LoadReport(
        matched=_each_once(report.matched for report in reports),
        new=_each_once(report.new for report in reports),
        dropped=tuple(
            name for name in first.dropped if all(name in report.dropped for report in others)
        ),
        other_shape=_each_once(report.other_shape for report in reports),
    )


def _each_once(parts: Iterable[Iterable[Found]]) -> tuple[Found, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(parts)))
