"""Trains a run on Ray; see `Runner` for what each method promises."""

from collections.abc import Callable
from typing import Any

import ray

from recsys_mtl.config import RunConfig
from recsys_mtl.driver.cluster import device_of, start_ray
from recsys_mtl.driver.events import tell_output_of
from recsys_mtl.driver.ray_exporter import ActorExporter
from recsys_mtl.driver.ray_train import fit
from recsys_mtl.exporter.snapshot import RunInfo
from recsys_mtl.worker.job import TrainJob


class RayRunner:
    """Holds the Ray cluster of one run, with the exporter's actor and the workers."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._exporter: ActorExporter | None = None
        self._end_telling: Callable[[], None] = lambda: None

    @property
    def address(self) -> str:
        """The address of this node, as Ray knows it."""
        return str(ray.util.get_node_ip_address())

    def start(self) -> str:
        """Join the cluster of RAY_ADDRESS, or start one here."""
        self._end_telling = tell_output_of("ray")
        start_ray(self._config)
        return device_of(self._config)

    def start_exporter(self, info: RunInfo) -> ActorExporter:
        """Make the exporter an actor on this node."""
        self._exporter = ActorExporter(info)
        return self._exporter

    def fit(self, job: TrainJob) -> dict[str, Any]:
        """Train in Ray Train's workers."""
        assert self._exporter is not None, "start it first"
        return fit(job, self._exporter.actor)

    def close(self) -> None:
        """Leave the cluster, or end the one that was started here, with the actor."""
        ray.shutdown()
        self._end_telling()
