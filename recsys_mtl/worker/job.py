"""What the driver hands to every worker: small, and soon imported."""

from dataclasses import dataclass
from typing import Any

from recsys_mtl.config import RunConfig
from recsys_mtl.data.manifest import Manifest


@dataclass(frozen=True)
class TrainJob:
    """A run to train, as it was found to be sound."""

    config: RunConfig
    """Checked."""
    device: str
    """`cpu` or `cuda`."""
    train: Manifest
    """Of data.train."""
    eval: Manifest
    """Of data.eval."""
    run_url: str
    """The run's own folder."""
    last_step: int
    """Steps at the end of the run."""
    exporter: Any
    """Actor handle of the run's exporter, or None."""
