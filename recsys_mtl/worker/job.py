"""What the driver hands to every worker: small, and soon imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys_mtl.config import RunConfig
from recsys_mtl.data.manifest import Manifest

if TYPE_CHECKING:  # the driver starts without torch's share of seconds
    from recsys_mtl.gradients.methods.contract import Method
    from recsys_mtl.model.bodies.build import BodyFactory


@dataclass(frozen=True)
class TrainJob:
    """A run to train, as it was found to be sound."""

    config: RunConfig
    """Checked."""
    device: str
    """`cpu` or `cuda`."""
    train: Manifest
    """What data.train holds."""
    eval: Manifest
    """What data.eval holds."""
    run_url: str
    """The run's own folder."""
    last_step: int
    """Steps at the end of the run."""
    body: BodyFactory | None = None
    """Makes a body of the caller's own, instead of the configured one."""
    method: Method | None = None
    """The caller's own, instead of the configured one."""
