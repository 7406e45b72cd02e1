"""The images: what the Dockerfile, the lock files and the context promise. No image is built."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker/Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = ["cpu", "cuda"]


@dataclass(frozen=True)
class Stage:
    """A stage's name, what it starts from, and its instructions as (word, rest)."""

    name: str
    parent: str
    instructions: tuple[tuple[str, str], ...]

    def rest_of(self, word: str) -> list[str]:
        return [rest for one, rest in self.instructions if one == word]


def instructions() -> list[tuple[str, str]]:
    lines = DOCKERFILE.read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    whole = text.replace("\\\n", " ").splitlines()
    pairs = [line.split(maxsplit=1) for line in whole if line.strip()]
    return [(word.upper(), " ".join(rest.split())) for word, rest in pairs]


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    for word, rest in instructions():
        if word == "FROM":
            parent, _, name = rest.split()
            found[name] = Stage(name, parent, ())
        elif found:
            last = found[next(reversed(found))]
            found[last.name] = Stage(last.name, last.parent, (*last.instructions, (word, rest)))
    return found


def lineage(name: str) -> list[Stage]:
    """The stages whose layers are in the image of `name`, the base first."""
    every = stages()
    chain = [every[name]]
    while chain[0].parent in every:
        chain.insert(0, every[chain[0].parent])
    return chain


def image_instructions(target: str) -> list[tuple[str, str]]:
    return [pair for stage in lineage(target) for pair in stage.instructions]


def context_sources(stage: Stage) -> list[str]:
    """What a stage copies from the project."""
    copies = [rest.split() for rest in stage.rest_of("COPY") if "--from=" not in rest]
    return [word for words in copies for word in words[:-1] if not word.startswith("--")]


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    beside = Path(sys.executable).parent / "hadolint"
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None and not os.environ.get("CI"):
        pytest.skip("hadolint is not installed")
    assert hadolint is not None
    nobodys = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    linted = subprocess.run(
        [hadolint, "--no-color", str(DOCKERFILE)],
        env=nobodys,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (linted.stdout + linted.stderr, linted.returncode) == ("", 0)


def test_hadolint_is_told_to_ignore_unpinned_system_packages_only() -> None:
    ignored = re.findall(r"hadolint ignore=(.*)", DOCKERFILE.read_text())
    assert set(ignored) <= {"DL3008"}


def test_the_base_is_an_argument_and_every_stage_builds_on_it() -> None:
    first, *_ = instructions()
    assert re.fullmatch(r"BASE=\S+:(?!latest)\S+", first[1]), first
    assert first[0] == "ARG"
    for name in stages():
        assert lineage(name)[0].parent == ("scratch" if name == "wheels" else "${BASE}")


def test_cpu_is_what_a_build_without_a_target_gives() -> None:
    assert set(TARGETS) <= set(stages())
    assert next(reversed(stages())) == "cpu"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_user_by_number_that_is_not_root(target: str) -> None:
    users = [rest for word, rest in image_instructions(target) if word == "USER"]
    assert users[-1] == "1000:1000"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_installs_no_build_tool_and_runs_no_pip(target: str) -> None:
    runs = " ".join(rest for word, rest in image_instructions(target) if word == "RUN")
    installed = re.findall(r"apt-get install (?:--\S+ )*([^&]*)", runs)
    assert [packages.split() for packages in installed] == [
        ["ca-certificates", "procps", "tini", "wget"]
    ]
    assert "pip" not in runs


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_checks_its_health_and_reaps_its_children(target: str) -> None:
    words = dict(image_instructions(target))
    assert "/api/healthz" in words["HEALTHCHECK"]
    assert words["ENTRYPOINT"] == '["tini", "--"]'


@pytest.mark.parametrize("target", TARGETS)
def test_a_change_of_the_source_leaves_the_environment_as_it_is(target: str) -> None:
    environment = stages()[f"{target}-environment"]
    assert context_sources(environment) == [f"docker/{target}.lock.txt"]
    assert context_sources(stages()["builder"]) == []
    order = context_sources(stages()["package"])
    assert order.index("docker/cpu.lock.txt") < order.index("recsys_mtl")
    image = stages()[target].rest_of("COPY")
    assert image[0].startswith(f"--from={target}-environment")
    assert image[-1].startswith("--from=package")


def test_the_label_names_the_projects_version() -> None:
    for target in TARGETS:
        assert f"VERSION={PROJECT['version']}" in stages()[target].rest_of("ARG")


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps `path` out: the last pattern that meets it or a folder above."""
    out = False
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        tail = pattern.removeprefix("**/")
        names = [one.rsplit("/", 1)[-1] for one in above] if tail != pattern else above
        # A `*` of Docker's stops at a slash.
        if any(fnmatchcase(n, tail) and n.count("/") == tail.count("/") for n in names):
            out = not line.startswith("!")
    return out


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "data/demo/train/part-0.parquet",
        "runs/demo/result.json",
        "tests/conftest.py",
        "deploy/README.md",
        "docker/Dockerfile",
        "recsys_mtl/__pycache__/cli.cpython-311.pyc",
        "recsys_mtl/gradients/__pycache__/gram.cpython-311.pyc",
        "pipelines/benchmarks/train_step.py",
        ".env",
        "id_rsa",
    ],
)
def test_the_context_leaves_out(path: str) -> None:
    assert ignored(path)


def test_the_context_holds_what_the_stages_copy_and_nothing_more() -> None:
    copied = {source for stage in stages().values() for source in context_sources(stage)}
    assert not [source for source in copied if ignored(source)]
    assert not ignored("recsys_mtl/gradients/gram.py")
    tops = {path.name for path in ROOT.iterdir() if not ignored(path.name)}
    assert tops == {source for source in copied if "/" not in source}


def pins(name: str) -> dict[str, tuple[str, bool]]:
    """Package -> (version, whether images leave it out), of a lock file."""
    found = {}
    for line in (ROOT / "docker" / name).read_text().splitlines():
        pin, _, comment = line.partition("#")
        if pin:
            package, version = pin.strip().split("==")
            assert canonicalize_name(package) not in found, line
            assert comment.strip() in ("", "dev"), line
            found[canonicalize_name(package)] = (version, comment.strip() == "dev")
    return found


def needed_by(requirements: list[str]) -> set[str]:
    """Every package that these need, by the metadata of what is installed."""
    found: set[tuple[str, frozenset[str]]] = set()
    rest = [Requirement(text) for text in requirements]
    while rest:
        one = rest.pop()
        name = canonicalize_name(one.name)
        # The CPU build has a name of its own.
        name = canonicalize_name("fbgemm-gpu-cpu") if name == "fbgemm-gpu" else name
        if (name, frozenset(one.extras)) in found:
            continue
        found.add((name, frozenset(one.extras)))
        for text in distribution(name).requires or []:
            needs = Requirement(text)
            extras = ["", *one.extras]
            if not needs.marker or any(needs.marker.evaluate({"extra": e}) for e in extras):
                rest.append(needs)
    return {name for name, _ in found}


def test_the_image_has_every_package_it_needs_and_none_of_the_tests() -> None:
    extras = PROJECT["optional-dependencies"]
    shipped = [*extras["pipelines"], *extras["s3"], *extras["serve"]]
    needed = needed_by([*PROJECT["dependencies"], *shipped])
    image = {name for name, (_, dev) in pins("cpu.lock.txt").items() if not dev}
    # Zone names for pandas, where the base image has none.
    assert image == needed | {"tzdata"}
    rest = needed_by([*extras["benchmarks"], *extras["test"]])
    assert rest <= set(pins("cpu.lock.txt"))


def test_the_gpu_set_is_the_cpu_set_but_for_the_cuda_builds() -> None:
    cpu, cuda = pins("cpu.lock.txt"), pins("cuda.lock.txt")
    assert cpu.pop("torch") == (f"{cuda['torch'][0]}+cpu", False)
    assert cpu.pop("fbgemm-gpu-cpu") == cuda["fbgemm-gpu"]
    # Tests alone use it on a CPU; on a GPU it runs the kernels.
    assert cpu.pop("triton") == (cuda["triton"][0], True)
    assert not cuda["triton"][1]
    assert {name: cuda.get(name) for name in cpu} == cpu
    added = set(cuda) - set(cpu) - {"torch", "fbgemm-gpu", "triton"}
    assert {name.split("-")[0] for name in added} == {"cuda", "nvidia"}
    assert {"cuda-bindings", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-nccl-cu13"} <= added


@pytest.fixture
def prebuilt(tmp_path: Path) -> Path:
    """The folder that the image's CC lies in, with a file that stands for the compiled one."""
    shutil.copy(ROOT / "docker/triton_cc.sh", tmp_path / "cc")
    (tmp_path / "driver.c").write_text("the source")
    (tmp_path / "driver.so").write_text("compiled")
    return tmp_path


def test_triton_is_handed_what_was_compiled_with_the_image(
    prebuilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triton.runtime import build  # slow to import

    monkeypatch.setenv("CC", str(prebuilt / "cc"))
    source = tmp_path / "main.c"
    source.write_text("the source")
    made = build._build("cuda_utils", str(source), str(tmp_path), ["/lib"], ["/include"], ["c"], [])
    assert Path(made).read_text() == "compiled"


def test_another_source_is_refused(prebuilt: Path, tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text("another source")
    target = tmp_path / "main.so"
    called = subprocess.run(
        [prebuilt / "cc", source, "-shared", "-o", target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert called.returncode != 0
    assert "no C compiler" in called.stderr
    assert not target.exists()


def test_triton_has_one_c_file_to_compile_for_a_gpu() -> None:
    backend = Path(str(distribution("triton").locate_file("triton/backends/nvidia")))
    calls = [
        line.strip()
        for path in backend.rglob("*.py")
        for line in path.read_text().splitlines()
        if "compile_module_from_src(" in line or '"driver.c"' in line
    ]
    assert len(calls) == 2, calls
    assert "driver.c" in calls[1]
