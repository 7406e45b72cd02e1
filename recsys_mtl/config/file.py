"""From a YAML file to `RunConfig`.

Everything a user can get wrong in the file is said here, with the path of the key, the value found
and what is allowed. Code behind it trusts the tree.
"""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeGuard, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from recsys_mtl.config.run import EXPONENT_NUMBER, RunConfig
from recsys_mtl.config.section import ConfigError, Section

_MOVED = {
    f"method.{key}": f"gradients.{key}"
    for key in ("scope", "space", "refresh_interval_steps", "audit_interval_steps", "backend")
}
"""Keys of earlier versions, and where they are now."""


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """The configuration in the YAML file `path`, with `a.b=value` overrides applied.

    Raises:
        ConfigError: a file, key, value or combination that cannot be; says which and what can.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); give the path of a run's YAML"
        ) from None
    try:
        tree = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {_in_one_line(error)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: is empty or no mapping; it needs the keys {_keys(RunConfig)}")
    return _validated(tree, overrides, str(path))


def overridden(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """A configuration with `a.b=value` overrides applied.

    Raises:
        ConfigError: a key, value or combination that cannot be; says which and what can.
    """
    return _validated(config.model_dump(mode="json"), overrides, "--set")


def _validated(tree: dict[str, Any], overrides: Sequence[str], path: str) -> RunConfig:
    for override in overrides:
        _apply_override(tree, override)
    try:
        # By way of JSON: strict JSON takes an array for a tuple, strict Python does not.
        return RunConfig.model_validate_json(json.dumps(tree))
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise ConfigError(
                f"{path}: holds a value that is no text, number or list: {error}"
            ) from None
        lines = [_explain(e) for e in _causes(error.errors())]
        raise ConfigError(f"{path}: " + "\n  ".join(lines)) from None


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and keys that are no text, reads 1e-3 as a number and
    leaves dates as text."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Not later, in construct_mapping: merge keys have added their keys to the node by then.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                continue  # SafeLoader itself refuses lists and mappings as keys
            if key.tag != "tag:yaml.org,2002:str":
                kind = key.tag.rpartition(":")[2]
                raise _refusal(key, f"the key {key.value!r} is read as {kind}; put it in quotes")
            if key.value in seen:
                raise _refusal(key, f"the key {key.value!r} stands twice; keep one")
            seen.add(key.value)
        return node


def _refusal(key: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.composer.ComposerError(None, None, problem, key.start_mark)


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", EXPONENT_NUMBER, list("-+0123456789")
)


def _in_one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")


def _apply_override(tree: dict[str, Any], override: str) -> None:
    path, separator, value = override.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set {override}: write it as a.b=value")
    *parents, last = path.split(".")
    node = tree
    for depth, parent in enumerate(parents, start=1):
        child = node.get(parent, {})
        if not isinstance(child, dict):
            where = ".".join(parents[:depth])
            raise ConfigError(
                f"--set {override}: {where} is {_short(child)}, which holds no keys; set it whole, "
                f"as {where}={{...}}"
            )
        node[parent] = dict(child)  # a YAML alias of the same mapping must not change with it
        node = node[parent]
    try:
        node[last] = yaml.load(value, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {override}: the value is not YAML: {_in_one_line(error)}"
        ) from None


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """The errors without those that only follow from an error in one of their items."""
    return [
        error
        for error in errors
        if error["type"] != "too_short"
        or not any(e is not error and e["loc"][: len(error["loc"])] == error["loc"] for e in errors)
    ]


def _explain(error: ErrorDetails) -> str:
    """One line for one pydantic error: path, value, what is allowed."""
    key = str(error["loc"][-1]) if error["loc"] else ""
    section, annotation, path = _walk(error["loc"])
    where, found = ".".join(path) or "the file", _short(error["input"])
    match error["type"]:
        case "extra_forbidden" if where in _MOVED:
            return (
                f"{where}: is now {_MOVED[where]}, for every method that compares gradients; write "
                f"{found} there"
            )
        case "extra_forbidden":
            allowed = section.yaml_keys() if section else []
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            return f"{where}: unknown key (value {found}); {hint}allowed: {', '.join(allowed)}"
        case "missing":
            return f"{where}: is missing; add it"
        case "union_tag_not_found":
            return f"{where}: needs the key kind, one of {_kinds(annotation)} (found {found})"
        case "union_tag_invalid":
            kind = error["ctx"]["tag"]
            return f"{where}.kind: unknown {kind!r}; allowed: {_kinds(annotation)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{where}: must hold keys (found {found}); allowed: {_shape(annotation)}"
        case "tuple_type":
            return f"{where}: must be a list (found {found})"
        case "too_short":
            return f"{where}: must not be empty (found {found})"
        case "value_error":
            message = error["msg"].removeprefix("Value error, ")
            return message if not path or message.startswith(where) else f"{where}: {message}"
        case _:
            message = error["msg"].replace("Input should be", "must be")
            return f"{where}: {message} (found {found})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _shape(annotation: Any) -> str:
    """What may stand where pydantic wanted a mapping of this type."""
    if _is_section(annotation):
        return _keys(annotation)
    kinds = _kinds(annotation)
    return f"kind (one of {kinds}) and its settings" if kinds else "a name and its value in a line"


def _kinds(union: Any) -> str:
    return ", ".join(str(_kind(member)) for member in get_args(union) if _is_section(member))


def _walk(location: tuple[int | str, ...]) -> tuple[type[Section] | None, Any, list[str]]:
    """Follow an error's location: the section that should hold its last key, its type, the path.

    Pydantic's location names the chosen member of a union (`method.gradops.alpha`) and marks an
    error in a key itself (`data.labels.a-b.[key]`); the path in the file has neither.
    """
    annotation: Any = RunConfig
    section, path = None, list[str]()
    for step in location:
        if step == "[key]":
            break
        members = {_kind(m): m for m in get_args(annotation) if _is_section(m)}
        if step in members:
            annotation = members[str(step)]
            continue
        path.append(str(step))
        if _is_section(annotation):
            section = annotation
            field = section.model_fields.get(str(step))
            annotation = field.annotation if field else None
        else:
            section = None
            annotation = get_args(annotation)[-1] if get_origin(annotation) is dict else None
        while get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        sections = [member for member in get_args(annotation) if _is_section(member)]
        if len(sections) == 1 and _kind(sections[0]) is None:
            annotation = sections[0]  # a section, or null
    return section, annotation, path


def _is_section(annotation: Any) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _kind(section: type[Section]) -> str | None:
    field = section.model_fields.get("kind")
    return get_args(field.annotation)[0] if field else None


def _keys(section: type[Section]) -> str:
    return ", ".join(section.yaml_keys())
