"""What is said of an arm whose configuration cannot be, where the file's own message does not help.

A section such as `method` has other settings for each kind. With the file's `{kind: gradops,
alpha: -1}`, the setting `method.kind=uniform,pcgrad` makes arms with an alpha, which neither of the
two takes. What works is the whole section for each kind.
"""

from collections.abc import Sequence
from typing import Any

import yaml

from recsys_mtl.config import ConfigError
from recsys_mtl.config.changes import settings_of
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.sweep.arms import Arm

_UNKNOWN = ": unknown key"  # as config.file says it


def arm_refusal(
    arm: Arm, arms: Sequence[Arm], error: ConfigError, run_yaml: str, overrides: Sequence[str]
) -> ConfigError:
    """The error of an arm, by its name, and with what to write instead where that is known.

    Args:
        arms: all arms of the sweep.
        error: what `load_config` said of the arm.
        overrides: of all arms.
    """
    lines = str(error).removeprefix(f"{run_yaml}: ").splitlines()
    unknown = [line.strip().partition(_UNKNOWN)[0] for line in lines if _UNKNOWN in line]
    for section in _sections_with_a_kind(arm):
        keys = [p.removeprefix(f"{section}.") for p in unknown if p.startswith(f"{section}.")]
        wholes = [_section(a, section, run_yaml, overrides) for a in arms]
        file = _section(Arm("", ()), section, run_yaml, overrides)
        others = [key for key in keys if any(key.split(".")[0] in s for s in (file, *wholes))]
        written = list(dict.fromkeys(map(_in_one_line, wholes)))
        if others and len(written) > 1:
            return ConfigError(
                f"arm {arm.name!r}: {section} of this kind has no {', '.join(others)}; write the "
                "section of each kind whole, with the settings of that kind, as "
                f'--set "{section}={",".join(written)}"'
            )
    return ConfigError(f"arm {arm.name!r}: {error}{_place_of(unknown, run_yaml, overrides)}")


def _sections_with_a_kind(arm: Arm) -> list[str]:
    """The sections whose kind the arm sets, such as `method`."""
    return [path for path, value in _set_by(arm) if isinstance(value, dict) and "kind" in value]


def _set_by(arm: Arm) -> list[tuple[str, Any]]:
    """The paths and values of an arm's settings; a kind is one of its section."""
    found = []
    for override in arm.overrides:
        path, _, text = override.partition("=")
        value = yaml.safe_load(text)
        is_kind = path.endswith(".kind")
        found.append((path.removesuffix(".kind"), {"kind": value}) if is_kind else (path, value))
    return found


def _section(arm: Arm, section: str, run_yaml: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What is set of a section in an arm; of an arm that cannot be, what itself sets as a whole."""
    try:
        config = load_config(run_yaml, (*overrides, *arm.overrides))
    except ConfigError:
        return next((value for path, value in _set_by(arm) if path == section), {})
    node: Any = config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for part in section.split("."):
        node = node.get(part, {}) if isinstance(node, dict) else {}
    return node if isinstance(node, dict) else {}


def _in_one_line(section: dict[str, Any]) -> str:
    """`{kind: gradops, alpha: -1.0}`."""
    text = yaml.safe_dump(section, default_flow_style=True, sort_keys=False, width=10**6)
    return text.strip()


def _place_of(unknown: Sequence[str], run_yaml: str, overrides: Sequence[str]) -> str:
    """A hint for a setting that was given without its section, such as `alpha`."""
    try:
        paths = list(settings_of(load_config(run_yaml, tuple(overrides))))
    except ConfigError:
        return ""
    found = [path for key in unknown for path in paths if path.endswith(f".{key}")]
    return f"; did you mean {found[0]}?" if found else ""
