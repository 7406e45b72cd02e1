"""The Ray cluster a run trains on: the only file that sets Ray up."""

import os
import socket
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from ray.job_config import JobConfig

from recsys_mtl.config import Cluster, RunConfig, UserError
from recsys_mtl.driver.events import is_json, log_event

MINUTES_FOR_WORKERS = 15
"""That a cluster has to grow in; Ray Train waits a minute for its workers each time."""
_KNOCK_SECONDS = 10


def start_ray(config: RunConfig) -> None:
    """Join the cluster of RAY_ADDRESS (set inside `ray job submit`), or start one here."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    # How often Ray Train looks after the workers: twice before it knows of their end.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "1")
    address = os.environ.get("RAY_ADDRESS")
    cluster = config.cluster
    wanted = cluster.num_workers * cluster.cpus_per_worker
    if address:
        try:
            _knock(address)
            ray.init(address=address, **_ray_logging())
        except (OSError, RayError, RuntimeError) as error:
            raise UserError(
                f"no Ray cluster answers at RAY_ADDRESS={address} ({error}); start one with `ray "
                "start --head`, or unset RAY_ADDRESS to train on this machine alone"
            ) from None
        there = int(ray.cluster_resources().get("CPU", 0))
        if there < wanted:
            log_event(
                "waiting",
                f"the cluster has {there} CPUs of {wanted} wanted; waiting up to "
                f"{MINUTES_FOR_WORKERS} minutes for it to grow",
            )
        return
    # A local Ray asks for a token (it makes one itself) unless RAY_AUTH_MODE says otherwise.
    ray.init(
        address="local",
        num_cpus=max(wanted, os.cpu_count() or 1),
        include_dashboard=False,
        **_ray_logging(),
    )


def cluster_address() -> str:
    """Where other processes join the cluster that this one has joined or started: a RAY_ADDRESS."""
    return os.environ.get("RAY_ADDRESS") or str(ray.get_runtime_context().gcs_address)


def cluster_nodes() -> list[dict[str, float]]:
    """The CPUs, GPUs and other resources of every node that is alive, whoever uses them now."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def leave_cluster() -> None:
    """Leave the cluster, or end the one that was started here."""
    ray.shutdown()


def resources_per_worker(cluster: Cluster, device: str) -> dict[str, float]:
    """What a worker reserves; its driver reserves nothing."""
    gpu = {"GPU": 1.0} if device == "cuda" else {}
    return {"CPU": float(cluster.cpus_per_worker)} | gpu


def _ray_logging() -> dict[str, Any]:
    """Workers log to files on their nodes, in the driver's format; the driver tells what counts."""
    encoding = "JSON" if is_json() else "TEXT"
    workers = JobConfig()
    workers.set_py_logging_config(ray.LoggingConfig(encoding=encoding, log_level="WARNING"))
    # As ray.init's own `logging_config` it would give the driver, too, lines of Ray's fields.
    return {"log_to_driver": False, "logging_level": "warning", "job_config": workers}


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


def device_of(config: RunConfig) -> str:
    """`cpu` or `cuda`.

    Raises:
        UserError: cuda is asked for and there is none.
    """
    cluster = config.cluster
    gpus = int(ray.cluster_resources().get("GPU", 0))
    match cluster.device:
        case "cpu":
            return "cpu"
        case "auto":
            return "cuda" if gpus >= cluster.num_workers and torch.cuda.is_available() else "cpu"
        case "cuda":
            if gpus < cluster.num_workers or torch.version.cuda is None:
                raise UserError(
                    f"cluster.device is cuda for {cluster.num_workers} worker(s), but the cluster "
                    f"has {gpus} GPU(s) and this torch is {torch.__version__}; choose cpu, or "
                    "auto to take GPUs where there are enough"
                )
            return "cuda"
