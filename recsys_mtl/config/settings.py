"""The list of every setting, with its type, default and meaning, as `recsys-mtl settings` shows it.

It is read from the JSON Schema, so that no setting can be missing here and be there.
"""

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recsys_mtl.config.json_schema import JsonSchema, run_json_schema
from recsys_mtl.config.section import UserError

NAME = "NAME"
"""Stands in a path where the user gives the name, such as a feature's."""

_NEEDED, _ABSENT = object(), object()


@dataclass(frozen=True)
class Setting:
    """One key of a run's YAML, or one kind that its value may have."""

    path: tuple[str, ...]
    """From the top of the file: ("training", "epochs")."""
    kind: str
    """The kind that it belongs to, where what lies above is one of several kinds; else empty."""
    allowed: str
    """What may stand there, in words; empty for a kind's own heading."""
    default: str
    """As YAML; `needed` where there is none, and empty for a section with settings below."""
    meaning: str
    """What it does."""


def all_settings() -> list[Setting]:
    """Every setting, each section before what it holds."""
    schema = run_json_schema()
    return list(_Walk(schema["$defs"]).below((), "", schema))


def settings_below(place: str) -> list[Setting]:
    """The setting at `place`, such as `training.epochs`, or a section with all that it holds.

    Raises:
        UserError: there is no such setting; names those with a similar name.
    """
    everything = all_settings()
    wanted = place.split(".")
    found = [setting for setting in everything if _lies_below(setting.path, wanted)]
    if not found:
        near = _near(place, [".".join(setting.path) for setting in everything])
        sections = ", ".join(dict.fromkeys(setting.path[0] for setting in everything))
        raise UserError(
            f"there is no setting {place!r}; "
            + (f"did you mean {' or '.join(near)}?" if near else f"the sections are {sections}")
        )
    return found


def _lies_below(path: tuple[str, ...], wanted: list[str]) -> bool:
    return len(path) >= len(wanted) and all(
        step in (asked, NAME) for step, asked in zip(path, wanted, strict=False)
    )


def _near(place: str, paths: list[str]) -> list[str]:
    """The paths that end with the word that was given, or else those spelled much like it."""
    last = place.rpartition(".")[2]
    ends = [path for path in paths if path.rpartition(".")[2] == last]
    ends += difflib.get_close_matches(place, paths, n=3, cutoff=0.8)
    by_last = {path.rpartition(".")[2]: path for path in reversed(paths)}
    alike = difflib.get_close_matches(last, list(by_last), n=3, cutoff=0.75)
    ends += [by_last[name] for name in alike]
    return list(dict.fromkeys(ends))[:3]


@dataclass(frozen=True)
class _Walk:
    """Goes through a JSON Schema whose parts refer to `definitions`."""

    definitions: dict[str, JsonSchema]

    def below(self, path: tuple[str, ...], kind: str, section: JsonSchema) -> Iterator[Setting]:
        """Yield the settings of a section."""
        needed = section.get("required", ())
        for name, part in section["properties"].items():
            if name == "kind" and "const" in part:
                continue  # the heading says it
            yield from self._setting((*path, name), kind, part, is_needed=name in needed)

    def _setting(
        self, path: tuple[str, ...], kind: str, part: JsonSchema, *, is_needed: bool
    ) -> Iterator[Setting]:
        sections = list(self._sections(part))
        named = self._of_names(part)
        default = part.get("default", _NEEDED if is_needed else _ABSENT)
        yield Setting(
            path,
            kind,
            self._in_words(part),
            _default_in_words(default, is_union="oneOf" in part, has_settings=bool(sections)),
            part.get("description", ""),
        )
        for section in sections:
            own_kind = section["properties"].get("kind", {}).get("const", "")
            if own_kind:
                yield Setting(path, own_kind, "", "", section["description"])
            yield from self.below(path, own_kind or kind, section)
        if named is not None:
            yield from self._setting((*path, NAME), kind, named, is_needed=False)

    def _sections(self, part: JsonSchema) -> Iterator[JsonSchema]:
        """Yield the sections that may stand in a part's place."""
        for option in part.get("oneOf") or part.get("anyOf") or [part]:
            target = self._target(option)
            if "properties" in target:
                yield target
            elif target is not part and ("oneOf" in target or "anyOf" in target):
                yield from self._sections(target)

    def _of_names(self, part: JsonSchema) -> JsonSchema | None:
        """What each name of a mapping stands for; None where it is no mapping of names."""
        return next(iter(part.get("patternProperties", {}).values()), None)

    def _target(self, part: JsonSchema) -> JsonSchema:
        reference = part.get("$ref")
        return part if reference is None else self.definitions[reference.removeprefix("#/$defs/")]

    def _in_words(self, part: JsonSchema) -> str:
        """What may stand in a part's place."""
        part = self._target(part)
        match part:
            case {"oneOf": options, "discriminator": _}:
                kinds = (self._target(o)["properties"]["kind"]["const"] for o in options)
                return f"keys of one kind: {', '.join(kinds)}"
            case {"oneOf": options} | {"anyOf": options}:
                return ", or ".join(self._in_words(option) for option in options)
            case {"enum": values}:
                return " | ".join(map(str, values))
            case {"const": value}:
                return str(value)
            case {"properties": _}:
                return "keys"
            case {"patternProperties": _} | {"type": "object"}:
                few = ", at least one" if part.get("minProperties") else ""
                return f"names, each with its value{few}"
            case {"type": "array"}:
                few = ", at least one" if part.get("minItems") else ""
                return f"list{few}, each a {self._in_words(part['items'])}"
        return _SIMPLE[part["type"]] + _bounds(part)


_SIMPLE = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}
_BOUNDS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
}


def _bounds(part: JsonSchema) -> str:
    bounds = [words.format(part[key]) for key, words in _BOUNDS.items() if key in part]
    return f" {', '.join(bounds)}".replace(", to", " to") if bounds else ""


def _default_in_words(default: Any, *, is_union: bool, has_settings: bool) -> str:
    if default is _ABSENT:
        return ""
    if default is _NEEDED:
        return "needed"
    if isinstance(default, dict) and has_settings:
        return str(default["kind"]) if is_union else ""
    if isinstance(default, str):
        return default or '""'
    return json.dumps(default)  # a number or list of JSON is one of YAML, too
