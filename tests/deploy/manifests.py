"""What deploy/kustomize renders, and whether a cluster would take it.

Kubernetes' own kinds are judged by Kubernetes' schemas, of the oldest and the newest version;
RayJob, PodMonitor and PrometheusRule by the schemas their projects publish, read as an API server
with strict field validation reads them; and a RayJob by what KubeRay and Kueue refuse beyond that.
"""

import copy
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
KUSTOMIZE = REPOSITORY / "deploy/kustomize"
OVERLAYS = tuple(sorted(p.parent.name for p in KUSTOMIZE.glob("overlays/*/kustomization.yaml")))
FOLDERS = ("storage", "demo-data", "monitoring", *(f"overlays/{name}" for name in OVERLAYS))
"""All that is applied, each by `kubectl apply -k`."""

OLDEST_KUBERNETES = "1.31"

Object = dict[str, Any]

_CRDS = Path(os.environ.get("RECSYS_MTL_CRDS", REPOSITORY.parent / "shared/crds"))
_CRD_FILES = {
    "RayJob": "ray.io_rayjobs.yaml",
    "PodMonitor": "monitoring.coreos.com_podmonitors.yaml",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules.yaml",
}


class InvalidManifest(Exception):  # noqa: N818 - what it is says more than that it is an error
    """A cluster would refuse the object."""


@cache
def _render(folder: Path) -> str:
    if shutil.which("kubectl") is None:
        _skip("kubectl is not on the path")
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(folder: str, root: Path = KUSTOMIZE) -> list[Object]:
    """The objects of a folder under `root`, in the order they are applied."""
    return list(yaml.load_all(_render(root / folder), yaml.CSafeLoader))


def find(objects: list[Object], kind: str) -> Object:
    """The only object of the kind."""
    (found,) = [o for o in objects if o["kind"] == kind]
    return found


def rayjob(overlay: str) -> Object:
    return find(render(f"overlays/{overlay}"), "RayJob")


def rayjob_entrypoint(overlay: str) -> str:
    """The command that KubeRay submits."""
    return str(rayjob(overlay)["spec"]["entrypoint"])


def pod_templates(manifest: Object) -> dict[str, Object]:
    """The pod templates of a RayJob or a Job, by group."""
    if manifest["kind"] == "Job":
        return {"job": manifest["spec"]["template"]}
    cluster = manifest["spec"]["rayClusterSpec"]
    groups = {g["groupName"]: g["template"] for g in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **groups}


def validate(manifest: Object) -> None:
    """Nothing, where a cluster would take the object.

    Raises:
        InvalidManifest: says where and why not.
    """
    if manifest["kind"] not in _CRD_FILES:
        _validate_built_in(manifest)
        return
    manifest, validator = copy.deepcopy(manifest), _crd_validator(manifest["kind"])
    _apply_defaults(validator.schema, manifest)
    for error in validator.iter_errors(manifest):
        raise InvalidManifest(f"{error.json_path}: {error.message}")
    # The schemas leave metadata open; the API server does not.
    metadata = manifest["metadata"]
    _validate_built_in({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    if manifest["kind"] == "RayJob":
        for template in pod_templates(manifest).values():
            _validate_built_in(
                {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {}, "template": template}
            )


def _validate_built_in(manifest: Object) -> None:
    for version in (OLDEST_KUBERNETES, kubernetes_validate.latest_version()):
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(map(str, error.path))
            raise InvalidManifest(f"{where}: {error.message} (Kubernetes {version})") from None


@cache
def _crd_validator(kind: str) -> jsonschema.Draft202012Validator:
    path = _CRDS / _CRD_FILES[kind]
    if not path.exists():
        _skip(f"the schema of {kind} is not at {path}; RECSYS_MTL_CRDS names another folder")
    definition = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    (schema,) = [
        version["schema"]["openAPIV3Schema"]
        for version in definition["spec"]["versions"]
        if version["name"] == "v1"
    ]
    return jsonschema.Draft202012Validator(_closed(schema))


def _closed(schema: Object) -> Object:
    """The schema, refusing fields it does not list: an API server drops them, or strictly refuses.

    Not within anyOf and the like, which repeat a part of the fields.
    """
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: _closed(s) for name, s in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
    for inner in ("items", "additionalProperties"):
        if isinstance(closed.get(inner), dict):
            closed[inner] = _closed(closed[inner])
    return closed


def _apply_defaults(schema: Object, value: Any) -> None:
    """Fill in, in place, what an API server fills in before it validates."""
    if isinstance(value, list):
        for item in value:
            _apply_defaults(schema.get("items", {}), item)
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if "default" in inner:
                value.setdefault(name, copy.deepcopy(inner["default"]))
            if name in value:
                _apply_defaults(inner, value[name])


def kuberay_refusals(manifest: Object) -> Iterator[str]:
    """Why KubeRay would mark a RayJob as ValidationFailed, or not do what it says."""
    spec = manifest["spec"]
    mode, deletion = spec.get("submissionMode", "K8sJobMode"), spec.get("deletionStrategy", {})
    retries = spec.get("backoffLimit", 0)
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", manifest["metadata"]["name"]):
        yield "the name is no DNS label of at most 47 characters"
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not spec.get("shutdownAfterJobFinishes"):
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if "deletionRules" in deletion and spec.get("shutdownAfterJobFinishes"):
        yield "deletionRules exclude shutdownAfterJobFinishes, and so a TTL"
    if "deletionRules" in deletion and {"onSuccess", "onFailure"} & deletion.keys():
        yield "deletionRules exclude onSuccess and onFailure"
    if mode != "K8sJobMode" and {"submitterPodTemplate", "submitterConfig"} & spec.keys():
        yield f"{mode} has no submitter pod"
    if mode == "InteractiveMode" and retries > 0:
        yield "InteractiveMode takes no backoffLimit"
    if spec.get("clusterSelector") and retries > 0:
        yield "clusterSelector takes no backoffLimit"
    if retries < 0:
        yield "backoffLimit is negative"
    if spec.get("activeDeadlineSeconds", 1) <= 0:
        yield "activeDeadlineSeconds is not positive"
    yield from _cluster_refusals(spec["rayClusterSpec"])


def _cluster_refusals(cluster: Object) -> Iterator[str]:
    version = tuple(map(int, str(cluster.get("rayVersion", "0")).split(".")))
    if cluster.get("authOptions", {}).get("mode") == "token" and version < (2, 52, 0):
        yield "authOptions.mode token needs rayVersion 2.52.0 or later"
    if cluster.get("authOptions", {}).get("enableK8sTokenAuth"):
        yield "a RayJob has no enableK8sTokenAuth"
    for group in cluster["workerGroupSpecs"]:
        if not 0 <= group["minReplicas"] <= group["maxReplicas"]:
            yield f"{group['groupName']}: minReplicas is above maxReplicas"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        params = group.get("rayStartParams", {})
        if "labels" in params:
            yield "rayStartParams take no labels"
        if group.get("resources") and {"num-cpus", "num-gpus", "memory"} & params.keys():
            yield "resources stand both in rayStartParams and in the group"


def kueue_refusals(manifest: Object) -> Iterator[str]:
    """Why Kueue's webhook would refuse a RayJob of a queue, or not manage it."""
    spec = manifest["spec"]
    if not manifest["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name"):
        yield "the label kueue.x-k8s.io/queue-name is missing"
    if "suspend" in spec:
        yield "spec.suspend is Kueue's: applied again, it would stop a run that trains"
    if not spec.get("shutdownAfterJobFinishes"):
        yield "a cluster that stays would keep its quota: set shutdownAfterJobFinishes"
    if spec.get("clusterSelector"):
        yield "Kueue manages no job on a cluster that is there already"
    if spec["rayClusterSpec"].get("enableInTreeAutoscaling"):
        yield "enableInTreeAutoscaling would change what has been admitted"
    groups = [group["groupName"] for group in spec["rayClusterSpec"]["workerGroupSpecs"]]
    if "head" in groups:
        yield "the group name head is reserved"


def _skip(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
