"""A run that has been trained, found by the URL of its folder, without the host that trained it."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.config.file import overridden
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.data.schema import refuse_other_families
from recsys_mtl.driver.committed import CommittedCheckpoint, best_of, checkpoints_of
from recsys_mtl.driver.storage import Folder, storage_url
from recsys_mtl.driver.stored_checkpoint import StoredCheckpoint
from recsys_mtl.worker.checkpoint_metadata import CheckpointMetadata, read_metadata

_MAY_BE_SET = (
    "cluster",
    "data.lanes",
    "data.on_error",
    "data.prefetch_batches",
    "training.global_batch_size",
    "training.precision",
)
_OTHER_VERSION = "score it with the version that trained it, or train it anew with this one"


@dataclass(frozen=True)
class TrainedRun:
    """One checkpoint of a run."""

    url: str
    """The run's folder."""
    checkpoint: CommittedCheckpoint
    source: StoredCheckpoint
    metadata: CheckpointMetadata

    @property
    def config(self) -> RunConfig:
        """The configuration that the checkpoint was trained with."""
        return self.metadata.config


def open_run(url: str, checkpoint: str = "last", named: str = "RUN") -> TrainedRun:
    """Find a checkpoint of a run.

    Args:
        url: the run's folder, <run.storage_path>/<run.name>: a path or any fsspec URL.
        checkpoint: `last`, `best`, or the name of one.
        named: the setting or the argument that gives it, for messages.

    Raises:
        UserError: there is no such run or checkpoint, or it is of another version.
    """
    folder = Folder(storage_url(url), named=named)
    if not folder.exists("config.yaml"):
        raise UserError(
            f"{named} {url} is no run's folder: there is no config.yaml in it; give "
            "<run.storage_path>/<run.name> of a run that has begun"
        )
    found = checkpoints_of(folder)
    if not found:
        raise UserError(
            f"{named} {url} has no checkpoint yet; wait for its first one, or set "
            "training.checkpoint_interval_steps lower"
        )
    chosen = _chosen(found, checkpoint, url)
    source = StoredCheckpoint(folder, chosen.name)
    return TrainedRun(folder.url, chosen, source, read_metadata(source, _OTHER_VERSION))


def scoring_config(run: TrainedRun, overrides: Sequence[str]) -> RunConfig:
    """The run's configuration with settings that only say how to score.

    Args:
        overrides: `A.B=VALUE` each.

    Raises:
        UserError: one of them would make it another model, or cannot be.
    """
    for override in overrides:
        path = override.partition("=")[0]
        if not any(path == place or path.startswith(f"{place}.") for place in _MAY_BE_SET):
            raise UserError(
                f"--set {path} is no setting of scoring, where the checkpoint says what the model "
                f"is; allowed: {', '.join(_MAY_BE_SET)}"
            )
    # The folder may have been moved since.
    storage_path, _, name = run.url.rpartition("/")
    moved = run.config.run.model_copy(update={"storage_path": storage_path, "name": name})
    return overridden(run.config.model_copy(update={"run": moved}), overrides)


def refuse_other_ids(run: TrainedRun, log: Manifest) -> None:
    """Raise DataError where a log's ids are not of the kind that the run was trained on."""
    refuse_other_families(
        log.column_families,
        run.metadata.column_families,
        here=log.url,
        there=f"the log that {run.url} was trained on",
    )


def _chosen(found: list[CommittedCheckpoint], wanted: str, url: str) -> CommittedCheckpoint:
    if wanted == "last":
        return found[-1]
    if wanted == "best":
        best = best_of(found)
        if best is None:
            raise UserError(
                f"no checkpoint of the run in {url} has a score, so none is the best; train with "
                "training.best_by, or choose --checkpoint last"
            )
        return best
    names = [checkpoint.name for checkpoint in found]
    if wanted not in names:
        near = difflib.get_close_matches(wanted, names, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(
            f"the run in {url} has no checkpoint {wanted!r}{hint}; allowed: last, best, "
            f"{', '.join(names)}"
        )
    return found[names.index(wanted)]
