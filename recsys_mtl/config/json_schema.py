"""A JSON Schema of a run's YAML, for editors, and for the list of settings."""

from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from recsys_mtl.config.run import RunConfig

JsonSchema = dict[str, Any]


def run_json_schema() -> JsonSchema:
    """The JSON Schema of what `load_config` reads.

    A file that it refuses, `load_config` refuses, too. What concerns several settings at once, such
    as a batch that the lanes do not divide, `load_config` alone tells.
    """
    schema = RunConfig.model_json_schema(schema_generator=_WithoutTitles)
    definitions = schema["$defs"]
    for part in list(_parts(schema)):
        if "description" in part:
            part["description"] = in_one_line(part["description"])
        # Pydantic refuses names that do not match; JSON Schema by itself lets them pass.
        if "patternProperties" in part:
            part["additionalProperties"] = False
        for reference in part.get("discriminator", {}).get("mapping", {}).values():
            _ask_for_kind(definitions[reference.removeprefix("#/$defs/")])
    return schema | {"title": "A run of recsys-mtl"}


def in_one_line(text: str) -> str:
    """A docstring without its line breaks."""
    return " ".join(text.split())


class _WithoutTitles(GenerateJsonSchema):
    """Makes no titles of names, such as "Num Workers", which editors show above the meaning."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _ask_for_kind(member: JsonSchema) -> None:
    """Have a member of a union need the key that chooses it, and let that key say what it is."""
    kind = member["properties"]["kind"]
    kind["description"] = member["description"]
    member["required"] = list(dict.fromkeys(["kind", *member.get("required", [])]))


def _parts(schema: JsonSchema) -> Iterator[JsonSchema]:
    """Every schema inside a schema, and itself."""
    yield schema
    for key, inner in schema.items():
        match key:
            case "properties" | "patternProperties" | "$defs":
                for part in inner.values():
                    yield from _parts(part)
            case "anyOf" | "oneOf" | "allOf" | "prefixItems":
                for part in inner:
                    yield from _parts(part)
            case "items" | "additionalProperties" if isinstance(inner, dict):
                yield from _parts(inner)
