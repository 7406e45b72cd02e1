"""The arms of a sweep: what is compared with each other, each with settings of its own."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from recsys_mtl.config import ConfigError

SINGLE_TASK = "single-task"
"""The arm of `--single-task`."""
AS_GIVEN = "as given"
"""The only arm where nothing varies."""


@dataclass(frozen=True)
class Arm:
    """One way to train, which is trained once per seed."""

    name: str
    """In tables; no two arms share it."""
    overrides: tuple[str, ...]
    """`A.B=VALUE` each, as `train --set` takes them."""
    single_task: bool = False
    """Whether the arm is one run per label instead of one run for all: they share nothing and have
    nothing to combine, so each is trained with `method: {kind: uniform}`."""


def grid(sets: Sequence[str]) -> tuple[list[Arm], tuple[str, ...]]:
    """Turn `A.B=VALUE,VALUE` settings into arms, one per combination of their values.

    `method.alpha=-1,0` and `optimizer.dense.learning_rate=0.01,0.1` make four arms: "alpha=-1,
    learning_rate=0.01" and so on. Values are cut at the commas of YAML, those outside of brackets,
    braces and quotes: `model.bottom_hidden_sizes=[64, 32],[128]` has two values, and
    `model.bottom_hidden_sizes=[64, 32]` one.

    Args:
        sets: as `--set` gives them; one with a single value holds for all arms.

    Returns:
        The arms, the last setting varying fastest, and the settings with one value, which the arms
        have, too.

    Raises:
        ConfigError: a setting is not written so, or stands twice.
    """
    values_of: dict[str, list[str]] = {}
    for text in sets:
        path, values = _values(text)
        if path in values_of:
            raise ConfigError(
                f"--set {path} stands twice; write all its values in one, as {path}=VALUE,VALUE"
            )
        values_of[path] = values
    fixed = tuple(f"{path}={v[0]}" for path, v in values_of.items() if len(v) == 1)
    return list(_products(values_of)), fixed


def _values(text: str) -> tuple[str, list[str]]:
    """The path of a setting, and the text of each of its values."""
    path, separator, listed = text.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set {text}: write it as a.b=value, or a.b=value,value for each value")
    try:
        # As the inside of a YAML list, whose marks say where each value stands.
        node = yaml.compose(f"[{listed}]", Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        raise ConfigError(
            f"--set {text}: {listed!r} is no list of YAML values; separate values by single commas "
            "and put one that holds a comma, a bracket or a quote of its own in quotes"
        ) from None
    nodes = () if node is None else node.value
    found = [listed[n.start_mark.index - 1 : n.end_mark.index - 1].strip() for n in nodes]
    if not found or "" in found:
        raise ConfigError(f"--set {text}: has no value; give one or more, separated by commas")
    repeated = next((value for place, value in enumerate(found) if value in found[:place]), None)
    if repeated is not None:
        raise ConfigError(f"--set {text}: the value {repeated} stands twice; keep one")
    return path, found


def _products(values_of: Mapping[str, Sequence[str]]) -> Iterator[Arm]:
    """One arm per combination, with its settings in the order in which they were given."""
    varying = [path for path, values in values_of.items() if len(values) > 1]
    last = {path: path.rpartition(".")[2] for path in varying}
    lasts = list(last.values())
    shown = {path: path if lasts.count(last[path]) > 1 else last[path] for path in varying}
    for values in itertools.product(*values_of.values()):
        settings = dict(zip(values_of, values, strict=True))
        name = ", ".join(_named(shown[path], settings[path]) for path in varying)
        yield Arm(name or AS_GIVEN, tuple(f"{path}={v}" for path, v in settings.items()))


def _named(name: str, value: str) -> str:
    """`alpha=-1`; a section such as `{kind: gradops, alpha: -1}` is `gradops alpha=-1`."""
    settings = yaml.load(value, Loader=yaml.BaseLoader)  # which leaves numbers as they are written
    if not isinstance(settings, dict) or "kind" not in settings:
        return f"{name}={value}"
    others = (f"{key}={inner}" for key, inner in settings.items() if key != "kind")
    return " ".join((str(settings["kind"]), *others))
