"""What all parts of the configuration are made of."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema


class UserError(Exception):
    """Something the user can mend. The message is one sentence: what, where, what to do."""


class ConfigError(UserError):
    """The run's YAML, or an override of it, is wrong."""


@dataclass(frozen=True)
class Spelled:
    """Refuses a text that does not match a pattern, saying in words what is allowed."""

    pattern: str
    allowed: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Check the text once it is known to be one."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Tell editors the pattern; JSON Schema looks for it anywhere, unless it is anchored."""
        return handler(schema) | {"pattern": f"^(?:{self.pattern})$"}

    def _check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise ValueError(f"{value!r} cannot be a name; allowed: {self.allowed}")
        return value


Name = Annotated[str, Spelled(r"[A-Za-z_][A-Za-z0-9_]*", "letters, digits and _, no digit first")]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the tree: frozen, without unknown keys, without silent conversions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    @classmethod
    def yaml_keys(cls) -> list[str]:
        """What its fields are called in a run's YAML, where Python may not have such a name."""
        return [field.alias or name for name, field in cls.model_fields.items()]
