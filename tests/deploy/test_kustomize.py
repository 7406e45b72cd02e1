"""deploy/kustomize: what it renders is valid, agrees with itself, and ends a run as it should."""

import contextlib
import copy
import importlib.metadata
import os
import re
import runpy
import secrets
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.synthetic_clicks import SCHEMA
from recsys_mtl.config import RunConfig
from recsys_mtl.config.file import load_config
from tests.deploy.manifests import (
    FOLDERS,
    KUSTOMIZE,
    OVERLAYS,
    REPOSITORY,
    InvalidManifest,
    Object,
    find,
    kuberay_refusals,
    kueue_refusals,
    pod_templates,
    rayjob,
    rayjob_entrypoint,
    render,
    validate,
)

KINDS = (
    "ConfigMap",
    "Job",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodMonitor",
    "PrometheusRule",
    "RayJob",
    "ServiceAccount",
)
# Whose keys are the user's own: no schema knows a misspelt one.
FREE_FORM = {"annotations", "data", "labels", "limits", "matchLabels", "rayStartParams", "requests"}
PRE_STOP = KUSTOMIZE / "base/pre_stop.py"

for_every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def objects() -> Iterator[Object]:
    for folder in FOLDERS:
        yield from render(folder)


def run_config(overlay: str, folder: Path) -> RunConfig:
    """The run that the overlay's pods find, as recsys-mtl reads it."""
    data = find(render(f"overlays/{overlay}"), "ConfigMap")["data"]
    path = folder / "run.yaml"
    path.write_text(data["run.yaml"], encoding="utf-8")
    return load_config(path)


def container(template: Object) -> Object:
    (only,) = template["spec"]["containers"]
    return dict(only)


def source_at(template: Object, path: str) -> tuple[Object, Object, str]:
    """The mount and the volume that hold `path` in the pod, and the rest of the path."""
    mounts = container(template)["volumeMounts"]
    (mount,) = [
        m for m in mounts if path == m["mountPath"] or path.startswith(m["mountPath"] + "/")
    ]
    (volume,) = [v for v in template["spec"]["volumes"] if v["name"] == mount["name"]]
    return mount, volume, path.removeprefix(mount["mountPath"]).removeprefix("/")


def bytes_of(quantity: str) -> int:
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return int(quantity[:-2]) * units[quantity[-2:]]


# Valid


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_rendered_object_is_one_that_a_cluster_takes(folder: str) -> None:
    rendered = render(folder)
    assert rendered
    for manifest in rendered:
        validate(manifest)


@for_every_overlay
def test_kuberay_accepts_the_job(overlay: str) -> None:
    assert list(kuberay_refusals(rayjob(overlay))) == []


def test_kueue_accepts_the_job_of_its_overlay() -> None:
    assert list(kueue_refusals(rayjob("kueue"))) == []


def test_the_kinds_whose_validation_is_tested_are_those_that_are_rendered() -> None:
    assert sorted({manifest["kind"] for manifest in objects()}) == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_typo_anywhere_in_an_object_is_refused(kind: str) -> None:
    manifest = next(o for o in objects() if o["kind"] == kind)
    places = [path for path in mappings(manifest) if not FREE_FORM & set(path)]
    assert () in places
    for path in places:
        planted = copy.deepcopy(manifest)
        place = planted
        for step in path:
            place = place[step]
        key = next(reversed(place))
        place[key + "x"] = place[key]  # beside the right one, which might be required
        with pytest.raises(InvalidManifest, match=f"{key}x"):
            validate(planted)


def mappings(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of the non-empty mappings in `value`."""
    if isinstance(value, dict) and value:
        yield path
        for key, inner in value.items():
            yield from mappings(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from mappings(inner, (*path, index))


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("metadata.name", "c" * 48, "47 characters"),
        ("spec.shutdownAfterJobFinishes", False, "ttlSecondsAfterFinished needs"),
        ("spec.deletionStrategy", {"deletionRules": [{}]}, "deletionRules exclude shutdown"),
        ("spec.submitterPodTemplate", {}, "HTTPMode has no submitter"),
        ("spec.submitterConfig", {}, "HTTPMode has no submitter"),
        ("spec.submissionMode", "InteractiveMode", "takes no backoffLimit"),
        ("spec.clusterSelector", {"ray.io/cluster": "x"}, "takes no backoffLimit"),
        ("spec.backoffLimit", -1, "negative"),
        ("spec.activeDeadlineSeconds", 0, "not positive"),
        ("spec.rayClusterSpec.rayVersion", "2.51.0", "2.52.0 or later"),
        ("spec.rayClusterSpec.authOptions.enableK8sTokenAuth", True, "no enableK8sTokenAuth"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.minReplicas", 9, "above maxReplicas"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.labels", "a=b", "take no labels"),
        ("spec.rayClusterSpec.headGroupSpec.resources", {"CPU": "0"}, "stand both"),
    ],
)
def test_what_only_kuberay_refuses_is_noticed(path: str, value: Any, reason: str) -> None:
    assert reason in "; ".join(kuberay_refusals(altered(rayjob("cpu-small"), path, value)))


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("metadata.labels", {}, "queue-name is missing"),
        ("spec.suspend", True, "spec.suspend"),
        ("spec.shutdownAfterJobFinishes", False, "keep its quota"),
        ("spec.clusterSelector", {"ray.io/cluster": "x"}, "there already"),
        ("spec.rayClusterSpec.enableInTreeAutoscaling", True, "enableInTreeAutoscaling"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.groupName", "head", "reserved"),
    ],
)
def test_what_only_kueue_refuses_is_noticed(path: str, value: Any, reason: str) -> None:
    assert reason in "; ".join(kueue_refusals(altered(rayjob("kueue"), path, value)))


def altered(manifest: Object, path: str, value: Any) -> Object:
    changed = copy.deepcopy(manifest)
    *parents, last = path.split(".")
    place: Any = changed
    for step in parents:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return changed


# A run and its pods


@for_every_overlay
def test_the_run_has_one_name_everywhere(overlay: str, tmp_path: Path) -> None:
    name = run_config(overlay, tmp_path).run.name
    job, policy = rayjob(overlay), find(render(f"overlays/{overlay}"), "NetworkPolicy")
    assert job["metadata"]["name"] == name
    pod_labels = [t["metadata"]["labels"] for t in pod_templates(job).values()]
    own = {"app.kubernetes.io/instance": name, "app.kubernetes.io/part-of": "recsys-mtl"}
    assert pod_labels == [own, own]
    assert policy["spec"]["podSelector"]["matchLabels"] == own


def test_no_two_overlays_are_the_same_run() -> None:
    assert len({rayjob(overlay)["metadata"]["name"] for overlay in OVERLAYS}) == len(OVERLAYS)


@for_every_overlay
def test_the_entrypoint_trains_the_yaml_that_is_mounted_on_every_pod(overlay: str) -> None:
    command, verb, path = rayjob_entrypoint(overlay).split()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert command in project["scripts"]
    assert verb == "train"
    for template in pod_templates(rayjob(overlay)).values():
        _, volume, key = source_at(template, path)
        config_map = find(render(f"overlays/{overlay}"), "ConfigMap")
        assert volume["configMap"]["name"] == config_map["metadata"]["name"]
        assert key in config_map["data"]
        assert config_map["immutable"] is True


@for_every_overlay
def test_workers_and_their_resources_are_those_of_the_runs_yaml(
    overlay: str, tmp_path: Path
) -> None:
    cluster = run_config(overlay, tmp_path).cluster
    (group,) = rayjob(overlay)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert {group[key] for key in ("replicas", "minReplicas", "maxReplicas")} == {
        cluster.num_workers
    }
    limits = container(group["template"])["resources"]["limits"]
    gpus, cpus = int(limits.get("nvidia.com/gpu", 0)), int(limits["cpu"])
    assert cluster.device in ("cpu", "cuda")
    assert gpus == (1 if cluster.device == "cuda" else 0)
    assert cpus >= cluster.cpus_per_worker
    # Ray packs: what fits twice into a pod is put there twice, and other pods stay idle.
    assert gpus == 1 or cpus < 2 * cluster.cpus_per_worker
    tolerations = [t["key"] for t in group["template"]["spec"].get("tolerations", [])]
    assert tolerations == ["nvidia.com/gpu"] * gpus


@for_every_overlay
def test_the_head_trains_nothing_and_needs_no_gpu(overlay: str) -> None:
    head = rayjob(overlay)["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert set(container(head["template"])["resources"]["limits"]) == {"cpu", "memory"}


@for_every_overlay
def test_memory_is_requested_as_limited_and_the_object_store_fits_into_it(overlay: str) -> None:
    cluster = rayjob(overlay)["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        resources = container(group["template"])["resources"]
        assert resources["requests"] == resources["limits"]
        _, shm, _ = source_at(group["template"], "/dev/shm")
        assert shm["emptyDir"]["medium"] == "Memory"
        room = bytes_of(shm["emptyDir"]["sizeLimit"])
        assert int(group["rayStartParams"]["object-store-memory"]) <= room
        assert room <= bytes_of(resources["limits"]["memory"]) / 4


@for_every_overlay
def test_checkpoints_go_to_a_claim_that_outlives_the_run(overlay: str, tmp_path: Path) -> None:
    storage_path = run_config(overlay, tmp_path).run.storage_path
    claims = {c["metadata"]["name"]: c["spec"]["accessModes"] for c in render("storage")}
    for template in pod_templates(rayjob(overlay)).values():
        mount, volume, _ = source_at(template, storage_path)
        assert not mount.get("readOnly")
        assert claims[volume["persistentVolumeClaim"]["claimName"]] == ["ReadWriteMany"]
    kinds = {o["kind"] for o in render(f"overlays/{overlay}")}
    assert "PersistentVolumeClaim" not in kinds  # `kubectl delete -k` of the run spares them


@for_every_overlay
def test_the_run_reads_the_demo_log_where_the_demo_job_writes_it(
    overlay: str, tmp_path: Path
) -> None:
    data = run_config(overlay, tmp_path).data
    job = find(render("demo-data"), "Job")
    writer = pod_templates(job)["job"]
    arguments = container(writer)["args"]
    out = arguments[arguments.index("--out") + 1]
    _, written_to, written = source_at(writer, out)
    assert (data.train, data.eval) == (f"{out}/train", f"{out}/eval")
    for template in pod_templates(rayjob(overlay)).values():
        mount, volume, read = source_at(template, out)
        assert mount["readOnly"]
        assert (volume["persistentVolumeClaim"], read) == (
            written_to["persistentVolumeClaim"],
            written,
        )
    columns = {feature.column or name for name, feature in data.features.items()}
    assert columns | {label.column for label in data.labels.values()} <= set(SCHEMA.names)


@for_every_overlay
def test_the_image_is_the_one_for_the_runs_device_on_every_pod(
    overlay: str, tmp_path: Path
) -> None:
    device = run_config(overlay, tmp_path).cluster.device
    images = {container(t)["image"] for t in pod_templates(rayjob(overlay)).values()}
    assert images == {f"recsys-mtl:{device}"}


@for_every_overlay
def test_an_overlay_takes_another_image_in_one_place(overlay: str, tmp_path: Path) -> None:
    other = {"newName": "registry.test/team/recsys-mtl", "newTag": "2"}
    job = changed_rayjob(overlay, lambda tree: tree["images"][0].update(other), tmp_path)
    images = {container(template)["image"] for template in pod_templates(job).values()}
    assert images == {"registry.test/team/recsys-mtl:2"}


def test_the_readmes_object_store_patch_reaches_every_pod(tmp_path: Path) -> None:
    readme = (KUSTOMIZE / "README.md").read_text(encoding="utf-8")
    (patches,) = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL))
    job = changed_rayjob("cpu-small", lambda tree: tree["patches"].extend(patches), tmp_path)
    validate(job)
    for template in pod_templates(job).values():
        assert container(template)["envFrom"] == [
            {"secretRef": {"name": "recsys-mtl-object-store"}}
        ]


def changed_rayjob(overlay: str, change: Callable[[Any], None], folder: Path) -> Object:
    """The RayJob of a copy of the overlay whose kustomization.yaml is changed."""
    shutil.copytree(KUSTOMIZE, folder / "kustomize")
    path = folder / "kustomize/overlays" / overlay / "kustomization.yaml"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(tree)
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return find(render(f"overlays/{overlay}", folder / "kustomize"), "RayJob")


@for_every_overlay
def test_the_ray_version_is_the_one_that_is_installed(overlay: str) -> None:
    version = rayjob(overlay)["spec"]["rayClusterSpec"]["rayVersion"]
    assert version == importlib.metadata.version("ray")


@for_every_overlay
def test_ray_asks_for_a_token_and_every_port_it_needs_is_on_the_heads_service(overlay: str) -> None:
    cluster = rayjob(overlay)["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    # KubeRay's service for the head has these ports alone once one is named.
    ports = {p["name"]: p["containerPort"] for p in head_ports(overlay)}
    assert {"gcs-server": 6379, "dashboard": 8265}.items() <= ports.items()


def head_ports(overlay: str) -> list[Object]:
    return list(container(pod_templates(rayjob(overlay))["head"])["ports"])


def test_every_pod_meets_the_restricted_pod_security_standard() -> None:
    pods = [
        template
        for manifest in objects()
        if manifest["kind"] in ("Job", "RayJob")
        for template in pod_templates(manifest).values()
    ]
    assert len(pods) == 2 * len(OVERLAYS) + 1
    for template in pods:
        spec, only = template["spec"], container(template)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 1000
        assert spec["securityContext"]["fsGroup"] == 1000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        mount, volume, _ = source_at(template, "/tmp")
        assert "emptyDir" in volume
        assert not mount.get("readOnly")


@for_every_overlay
def test_the_images_home_is_writable(overlay: str) -> None:
    dockerfile = (REPOSITORY / "docker/Dockerfile").read_text(encoding="utf-8")
    (home,) = re.findall(r"\bHOME=(\S+)", dockerfile)
    for template in pod_templates(rayjob(overlay)).values():
        mount, volume, rest = source_at(template, home)
        assert "emptyDir" in volume
        assert not mount.get("readOnly")
        assert not rest


# Metrics


@for_every_overlay
def test_prometheus_alone_reaches_the_metrics_and_the_operator_the_dashboard(
    overlay: str, tmp_path: Path
) -> None:
    metrics_port = run_config(overlay, tmp_path).metrics.port
    policy = find(render(f"overlays/{overlay}"), "NetworkPolicy")["spec"]
    own = {"podSelector": policy["podSelector"]}
    namespace = "kubernetes.io/metadata.name"
    assert [
        (peer, [p["port"] for p in rule.get("ports", [])])
        for rule in policy["ingress"]
        for peer in rule["from"]
    ] == [
        (own, []),
        ({"namespaceSelector": {"matchLabels": {namespace: "kuberay-system"}}}, [8265]),
        ({"namespaceSelector": {"matchLabels": {namespace: "monitoring"}}}, [metrics_port]),
    ]
    assert policy["policyTypes"] == ["Ingress"]


@for_every_overlay
def test_the_pod_monitor_finds_the_runs_endpoint_on_the_head(overlay: str, tmp_path: Path) -> None:
    metrics = run_config(overlay, tmp_path).metrics
    monitor = find(render("monitoring"), "PodMonitor")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    ports = {p["name"]: p["containerPort"] for p in head_ports(overlay)}
    assert metrics.bind_address == "0.0.0.0"
    assert ports[endpoint["port"]] == metrics.port
    labels = pod_templates(rayjob(overlay))["head"]["metadata"]["labels"]
    # KubeRay adds the node's type itself, to the head's pod as "head".
    assert (
        monitor["selector"]["matchLabels"].items() <= {**labels, "ray.io/node-type": "head"}.items()
    )
    assert labels[monitor["jobLabel"]] == "recsys-mtl"
    assert 2 * int(endpoint["interval"].removesuffix("s")) <= metrics.linger_seconds


@for_every_overlay
def test_the_token_that_prometheus_sends_is_the_one_that_the_run_asks_for(
    overlay: str, tmp_path: Path
) -> None:
    token_file = run_config(overlay, tmp_path).metrics.bearer_token_file
    assert token_file is not None
    mount, volume, path = source_at(pod_templates(rayjob(overlay))["head"], str(token_file))
    assert mount["readOnly"]
    (endpoint,) = find(render("monitoring"), "PodMonitor")["spec"]["podMetricsEndpoints"]
    credentials = endpoint["authorization"]["credentials"]
    assert volume["secret"] == {
        "secretName": credentials["name"],
        "items": [{"key": credentials["key"], "path": path}],
    }


def test_the_alerts_that_are_applied_are_those_of_the_rules_file() -> None:
    script = runpy.run_path(str(KUSTOMIZE / "render_rules.py"))
    rules = script["RULES"].read_text(encoding="utf-8")
    assert script["PROMETHEUS_RULE"].read_text(encoding="utf-8") == script["render"](rules), (
        "run deploy/kustomize/render_rules.py"
    )
    assert find(render("monitoring"), "PrometheusRule")["spec"] == yaml.safe_load(rules)


# The end of a pod


@for_every_overlay
def test_every_pod_has_longer_to_end_than_its_hook_and_that_than_the_run(
    overlay: str, tmp_path: Path
) -> None:
    config = run_config(overlay, tmp_path)
    program, *_ = rayjob_entrypoint(overlay).split()
    hooks = {}
    for group, template in pod_templates(rayjob(overlay)).items():
        only = container(template)
        python, isolated, path, *hook, seconds = only["lifecycle"]["preStop"]["exec"]["command"]
        assert (python, isolated) == ("python", "-I")
        _, volume, key = source_at(template, path)
        config_map = find(render(f"overlays/{overlay}"), "ConfigMap")
        assert volume["configMap"]["name"] == config_map["metadata"]["name"]
        assert config_map["data"][key] == PRE_STOP.read_text(encoding="utf-8")
        assert int(seconds) + 10 <= template["spec"]["terminationGracePeriodSeconds"]
        assert config.cluster.grace_seconds + config.metrics.linger_seconds <= int(seconds)
        hooks[group] = hook
        if group == "head":
            environment = {e["name"]: e["value"] for e in only["env"]}
            assert environment["RAY_JOB_STOP_WAIT_TIME_S"] == seconds
    assert hooks == {"head": ["end", program], "workers": ["wait", "ray::RayTrainWorker"]}


def test_ray_still_calls_a_training_worker_what_the_hook_waits_for() -> None:
    # Ray titles an actor's process after its class.
    module = "ray/train/v2/_internal/execution/worker_group/worker.py"
    source = importlib.metadata.distribution("ray").locate_file(module).read_text(encoding="utf-8")
    assert "\nclass RayTrainWorker:" in source


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A Python program under a name that no other process of the machine has."""
    return tmp_path / f"program-{secrets.token_hex(4)}"


def pre_stop(*arguments: str) -> None:
    subprocess.run([sys.executable, "-I", str(PRE_STOP), *arguments], check=True, timeout=30)


@pytest.fixture
def driver(program: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Runs a text as the program, under a shell as Ray does. The text prints one line first."""
    started = []

    def start(text: str) -> subprocess.Popen[str]:
        program.write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            f"{sys.executable} {program} train run.yaml; exit $?",
            shell=True,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_the_heads_hook_asks_the_driver_once_and_waits_for_its_checkpoint(
    driver: Callable[[str], subprocess.Popen[str]], program: Path
) -> None:
    process = driver(
        """
import signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
print("ready", flush=True)
while not asked:
    time.sleep(0.01)
end = time.monotonic() + 0.7
while time.monotonic() < end:
    time.sleep(0.05)
print("saved after", len(asked), "signal", flush=True)
sys.exit(143)
""",
    )
    pre_stop("end", program.name, "20")
    # Were the shell ended too, Ray would see it end by a signal, before the checkpoint is there.
    assert process.communicate(timeout=1)[0] == "saved after 1 signal\n"
    assert process.returncode == 143


def test_the_heads_hook_gives_up_when_its_time_is_over(
    driver: Callable[[str], subprocess.Popen[str]], program: Path
) -> None:
    process = driver(
        """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
""",
    )
    begin = time.monotonic()
    pre_stop("end", program.name, "0.5")
    assert 0.5 <= time.monotonic() - begin < 10
    assert process.poll() is None


def test_a_workers_hook_stays_for_a_process_of_the_title_and_leaves_it_alone(program: Path) -> None:
    title = f"ray::{program.name}"
    worker = subprocess.Popen(["bash", "-c", f"exec -a {title}.execute sleep 1.2"])
    while title.encode() not in Path(f"/proc/{worker.pid}/cmdline").read_bytes().split(b".")[0]:
        time.sleep(0.01)
    pre_stop("wait", title, "20")
    assert worker.wait(timeout=1) == 0


@pytest.mark.parametrize("action", ["end", "wait"])
def test_a_hook_with_nothing_to_wait_for_is_over_at_once(action: str, program: Path) -> None:
    begin = time.monotonic()
    pre_stop(action, program.name, "20")
    assert time.monotonic() - begin < 5
