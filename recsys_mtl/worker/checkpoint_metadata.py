"""What a checkpoint says about its run in plain numbers: soon read, without torch and TorchRec.

So the driver knows before it starts any worker whether a run may go on from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recsys_mtl.config import RunConfig, UserError, refuse_changes
from recsys_mtl.data.ids import ID_ENCODING_VERSION

if TYPE_CHECKING:
    from recsys_mtl.distributed.planning import PlanRecord
    from recsys_mtl.worker.host import CheckpointSource

VERSION = 3
"""Which names and layout a checkpoint has. Version 1 held flat vectors without names; version 2 did
not say what the columns of the log held."""

METADATA_FILE = "run.json"
"""Its name in the checkpoint's folder."""


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a checkpoint says about its run, in plain numbers."""

    version: int
    """`VERSION` of the code that wrote it."""
    id_encoding: int
    """`ID_ENCODING_VERSION` then: under another encoding the tables mean nothing."""
    step: int
    """Finished steps: the reader's cursor, too, since a step's rows follow from its number."""
    saved_at: float
    """Unix seconds, of rank 0's clock."""
    config: RunConfig
    """The configuration that made it."""
    data_digest: str
    """The digest of the training log's manifest."""
    column_families: Mapping[str, str]
    """What the training log's columns held, as its manifest says it."""
    sharding_plan: PlanRecord
    """Which shard lay where; empty without tables. Restoring onto another plan cuts them anew."""
    totals: Mapping[str, Any]
    """`Totals.to_json()`."""
    evaluation: Mapping[str, Any]
    """The newest before it, task by task."""
    window_steps: int
    """Steps in the current window of the training AUC."""
    body: str = ""
    """The body's class, by `name_of_body`; another one may give its parameters other meanings."""
    warm_start: Mapping[str, Any] | None = None
    """What the run took from another one; None where it began with random values."""
    best: Mapping[str, Any] = field(default_factory=dict)
    """`BestKeeper.state_dict()`."""


_TRAIN_ANEW = "choose another run.name, or start anew with --fresh"


def read_metadata(source: CheckpointSource, advice: str = _TRAIN_ANEW) -> CheckpointMetadata:
    """What a checkpoint says about its run; its tensors are not fetched.

    Args:
        advice: what to do where it is of another version.

    Raises:
        UserError: it is of another version.
    """
    try:
        numbers = json.loads(source.read(METADATA_FILE))
        if numbers.get("version") != VERSION:
            raise ValueError(f"version {numbers.get('version', 1)}, and this one reads {VERSION}")
        if numbers["id_encoding"] != ID_ENCODING_VERSION:
            raise ValueError(
                f"ids encoded by version {numbers['id_encoding']}, and here {ID_ENCODING_VERSION}"
            )
        config = RunConfig.model_validate_json(json.dumps(numbers["config"]))
        return CheckpointMetadata(**numbers | {"config": config})
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"the run's checkpoint is of another version of recsys-mtl ({error}); {advice}"
        ) from None


def refuse_to_go_on(
    metadata: CheckpointMetadata, config: RunConfig, data_digest: str, last_step: int
) -> None:
    """Nothing, where a run may go on from this checkpoint.

    Args:
        config: what the run is now asked to be.
        data_digest: of the training log's manifest, now.
        last_step: at which it is now to end.

    Raises:
        UserError: it was made by another model, method, optimizer or log, or lies behind the end.
    """
    refuse_changes(metadata.config, config, metadata.data_digest, data_digest)
    if metadata.step > last_step:
        raise UserError(
            f"run {config.run.name!r} has trained {metadata.step} steps, more than the "
            f"{last_step} that training.epochs and training.max_steps now ask for; raise "
            "them, or start anew with --fresh"
        )
