"""Checkpoints: save, commit through Ray Train, restore on any number of workers.

Each worker writes its part with torch.distributed.checkpoint into a folder of its own; Ray Train
uploads the parts into one folder of the run and commits it. Only committed ones are ever read.
"""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors
from torch.distributed.checkpoint.state_dict_saver import save as save_tensors

from recsys_mtl.config import RunConfig, UserError, refuse_changes
from recsys_mtl.distributed.planning import PlanRecord
from recsys_mtl.exporter.snapshot import CheckpointFacts

_FACTS = "run.json"


@dataclass(frozen=True)
class Facts:
    """What a checkpoint says about its run, in plain numbers."""

    step: int
    """Finished steps: the reader's cursor, too, since a step's rows follow from its number."""
    saved_at: float
    """Unix seconds, of rank 0's clock."""
    config: RunConfig
    """The configuration that made it."""
    data_digest: str
    """Of the training log's manifest."""
    sharding_plan: PlanRecord
    """Which shard lay where; empty without tables. Restoring onto another plan cuts them anew."""
    totals: Mapping[str, Any]
    """`Totals.to_json()`."""
    evaluation: Mapping[str, Any]
    """The newest before it, task by task."""
    window_steps: int
    """Steps in the current window of the training AUC."""


def save(tensors: Mapping[str, Any], facts: Facts, metrics: Mapping[str, Any]) -> CheckpointFacts:
    """Write, upload and commit a checkpoint; every worker calls it at the same step.

    Args:
        tensors: a tree with the same keys on every worker; sharded tensors hold its own shards,
            all others are the same everywhere.
        facts: rank 0's are kept.
        metrics: what Ray Train shows for this report.

    Returns:
        When and how long, with this worker's bytes.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="recsys_mtl_checkpoint_") as folder:
        save_tensors(_without_empty(tensors), checkpoint_id=folder)
        if ray.train.get_context().get_world_rank() == 0:
            numbers = vars(facts) | {"config": facts.config.model_dump(mode="json")}
            (Path(folder) / _FACTS).write_text(json.dumps(numbers, indent=2))
        own_bytes = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report(dict(metrics), checkpoint=checkpoint)
    seconds = time.perf_counter() - started
    return CheckpointFacts(time.time(), seconds, size_bytes=own_bytes)


def restore(
    checkpoint: ray.train.Checkpoint,
    tensors: Mapping[str, Any],
    config: RunConfig,
    data_digest: str,
) -> Facts:
    """Load a committed checkpoint into `tensors`, in place, whatever the sharding was.

    Raises:
        UserError: it belongs to another model, method, optimizer or log; names what changed.
    """
    with checkpoint.as_directory() as folder:
        facts = _facts_of((Path(folder) / _FACTS).read_bytes())
        refuse_changes(facts.config, config, facts.data_digest, data_digest)
        load_tensors(_without_empty(tensors), checkpoint_id=folder)
    return facts


def earlier_plan(checkpoint: ray.train.Checkpoint | None, config: RunConfig) -> PlanRecord | None:
    """The sharding plan to keep to: the run's own, unless what it was made for has changed."""
    if checkpoint is None:
        return None
    # This file alone: on an object store a checkpoint's folder would be fetched whole.
    with checkpoint.filesystem.open_input_stream(f"{checkpoint.path}/{_FACTS}") as stream:
        facts = _facts_of(stream.read())
    old = facts.config
    same_workers = old.cluster.num_workers == config.cluster.num_workers
    same_wishes = old.sharding == config.sharding
    return facts.sharding_plan if same_workers and same_wishes and facts.sharding_plan else None


def _facts_of(text: bytes) -> Facts:
    try:
        numbers = json.loads(text)
        config = RunConfig.model_validate_json(json.dumps(numbers["config"]))
        return Facts(**numbers | {"config": config})
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"the run's checkpoint is of another version of recsys-mtl ({error}); choose another "
            "run.name, or start anew with --fresh"
        ) from None


def _without_empty(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree without empty branches (an optimizer without state): they cannot be loaded."""
    branches = {
        name: _without_empty(branch) if isinstance(branch, Mapping) else branch
        for name, branch in tree.items()
    }
    return {
        name: branch
        for name, branch in branches.items()
        if not (isinstance(branch, dict) and not branch)
    }
