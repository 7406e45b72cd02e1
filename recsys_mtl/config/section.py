"""What all parts of the configuration are made of."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class UserError(Exception):
    """Something the user can mend. The message is one sentence: what, where, what to do."""


class ConfigError(UserError):
    """The run's YAML, or an override of it, is wrong."""


def spelled(pattern: str, allowed: str) -> AfterValidator:
    """Refuse a text that does not match, saying in words what is allowed."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"{value!r} cannot be a name; allowed: {allowed}")
        return value

    return AfterValidator(check)


Name = Annotated[str, spelled(r"[A-Za-z_][A-Za-z0-9_]*", "letters, digits and _, no digit first")]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the tree: frozen, without unknown keys, without silent conversions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )
