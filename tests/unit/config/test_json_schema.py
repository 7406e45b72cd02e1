"""The JSON Schema of a run's YAML: it takes what `load_config` takes, and catches misspelt keys."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from recsys_mtl.config import ConfigError
from recsys_mtl.config.file import load_config
from recsys_mtl.config.json_schema import run_json_schema
from tests.unit.run_files import write_run

RUNS = sorted((Path(__file__).parents[3] / "pipelines" / "runs").glob("*.yaml"))
SCHEMA = run_json_schema()


def refused(tree: Any) -> list[str]:
    """Where the schema finds fault, as paths into the file."""
    return [error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(tree)]


def places(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key of a file."""
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield (*path, key)
            yield from places(inner, (*path, key))


def with_key_renamed(tree: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    changed = copy.deepcopy(tree)
    section = changed
    for step in path[:-1]:
        section = section[step]
    section[f"{path[-1]}e"] = section.pop(path[-1])
    return changed


def test_it_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: str(run.stem))
def test_every_run_of_the_project_is_valid_as_written_and_as_resolved(run: Path) -> None:
    assert refused(yaml.safe_load(run.read_text().replace("1e-3", "0.001"))) == []
    assert refused(yaml.safe_load(load_config(run).to_yaml())) == []


@pytest.mark.parametrize("run", RUNS, ids=lambda run: str(run.stem))
def test_a_misspelt_key_is_refused_wherever_it_stands(run: Path) -> None:
    tree = yaml.safe_load(run.read_text().replace("1e-3", "0.001"))
    given_by_user = {("data", "features"), ("data", "labels"), ("sharding",)}
    for path in places(tree):
        if path[:-1] not in given_by_user:
            assert refused(with_key_renamed(tree, path)), path


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.dense={learning_rate: 0.1}",
        "model.body={}",
        "data.features.a-b={kind: dense}",
        "data.features.x={kind: one_hot}",
        "data.features.x={kind: one_hot, vocabulary: []}",
        "data.features.x={kind: one_hot, vocabulary: [a, a]}",
        "data.features.x={kind: one_hot, vocabulary: [1.5]}",
        "run.name=.hidden",
        "run.name=2",
        "metrics.port=70000",
        "metrics.port=many",
        "method.kind=gradpos",
        "method.learning_rate=1",
        "data.labels={}",
        "model.bottom_hidden_sizes=[]",
        "model.dropout=1",
        "training.epochs=0",
        "cluster=null",
    ],
)
def test_what_it_refuses_is_refused_by_load_config(tmp_path: Path, override: str) -> None:
    path = write_run(tmp_path)
    tree = yaml.safe_load(path.read_text())
    place, _, value = override.partition("=")
    *parents, last = place.split(".")
    section = tree
    for parent in parents:
        section = section.setdefault(parent, {})
    section[last] = yaml.safe_load(value)
    assert refused(tree)
    with pytest.raises(ConfigError):
        load_config(path, (override,))


@pytest.mark.parametrize("port", [0, 65535, "9400-9420"])
def test_a_port_and_a_range_of_ports_are_valid(tmp_path: Path, port: int | str) -> None:
    tree = yaml.safe_load(write_run(tmp_path).read_text())
    assert refused(tree | {"metrics": {"port": port}}) == []


def test_every_key_has_a_meaning_and_no_title() -> None:
    for name, section in SCHEMA["$defs"].items():
        for key, part in section["properties"].items():
            assert part.get("description"), f"{name}.{key}"
            assert "\n" not in part["description"]
            assert "title" not in part
