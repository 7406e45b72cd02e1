"""The panels of a Grafana dashboard file: what each asks Prometheus, and how it shows the answer.

Read is what deploy/grafana/dashboards/recsys_mtl.json uses, not all that Grafana knows.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parents[1] / "deploy/grafana/dashboards/recsys_mtl.json"


@dataclass(frozen=True)
class Query:
    """One target of a panel."""

    promql: str
    """With Grafana's variables, as `fill` takes it."""
    legend: str
    """`{{label}}` stands for the label's value, nothing where there is none."""

    def name(self, labels: Mapping[str, str]) -> str:
        """What the legend calls the series with these labels."""
        return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), self.legend)


@dataclass(frozen=True)
class Panel:
    """One panel, or the heading of a row of panels."""

    kind: str
    """`row`, `stat`, `timeseries` or `state-timeline`."""
    title: str
    description: str
    x: int
    """In 24ths of the dashboard's width, from the left."""
    y: int
    """In units of height, from the top."""
    width: int
    height: int
    queries: tuple[Query, ...]
    unit: str
    """Grafana's name, for example `percentunit`."""
    decimals: int | None
    minimum: float | None
    """Where the axis begins; None leaves it to the data."""
    maximum: float | None
    thresholds: tuple[tuple[float, str], ...]
    """From the lowest: a bound, and the colour from there on; the first bound is -inf."""
    mappings: Mapping[float, tuple[str, str]]
    """Value to the text shown for it, and its colour."""
    stacked: bool
    bars: bool
    log_scale: bool
    shows_thresholds: bool
    """As lines across the panel."""
    text_mode: str
    """What a stat shows: `value`, `name` or `value_and_name`."""
    colour_mode: str
    """What a stat's threshold colours: `value`, `background` or `none`."""
    repeat: str | None
    """A variable: the panel stands once per option of it. It is as wide as the dashboard."""
    most_per_row: int


@dataclass(frozen=True)
class Option:
    """One value of a variable that panels repeat for."""

    text: str
    """Replaces `${variable:text}`."""
    value: str
    """Replaces `$variable`."""


NO_OPTION = Option("none", "none")
"""Stands for a variable without a value: Grafana leaves one panel, which has no data."""


@dataclass(frozen=True)
class Variable:
    """A variable of the dashboard whose options are values of a label."""

    name: str
    selector: str
    """The series that are looked at, with Grafana's variables, as `fill` takes it."""
    label: str
    regex: str
    """Python's, with groups `text` and `value`."""

    def options(self, label_values: Iterable[str]) -> list[Option]:
        """Returns what those of the label's values that match come to, sorted."""
        found = (re.search(self.regex, value) for value in sorted(label_values))
        return [Option(match["text"], match["value"]) for match in found if match]


def read_panels(dashboard: Path = DASHBOARD) -> list[Panel]:
    """The panels of a dashboard file, headings included, in the file's order."""
    return [_panel(raw) for raw in json.loads(dashboard.read_text())["panels"]]


def read_variables(dashboard: Path = DASHBOARD) -> list[Variable]:
    """Returns the variables that panels of a dashboard file repeat for."""
    raw = json.loads(dashboard.read_text())
    repeated = {panel["repeat"] for panel in raw["panels"] if "repeat" in panel}
    return [_variable(v) for v in raw["templating"]["list"] if v["name"] in repeated]


def repeated(panels: Sequence[Panel], options: Mapping[str, Sequence[Option]]) -> list[Panel]:
    """Lays out panels that repeat, as Grafana does: side by side, with what is below moved down.

    Three options of a variable, with at most two panels per row, take two rows, the panels half as
    wide as the dashboard.

    Args:
        panels: in the order of the page.
        options: of each variable that a panel repeats for.
    """
    laid_out, moved = [], 0
    for panel in panels:
        panel = replace(panel, y=panel.y + moved)
        if panel.repeat is None:
            laid_out.append(panel)
            continue
        values = options[panel.repeat] or (NO_OPTION,)
        per_row = min(len(values), panel.most_per_row)
        width = panel.width // per_row
        for i, option in enumerate(values):
            x, y = i % per_row * width, panel.y + i // per_row * panel.height
            laid_out.append(_with_option(replace(panel, x=x, y=y, width=width), option))
        moved += ((len(values) - 1) // per_row) * panel.height
    return laid_out


def fill(promql: str, *, run: str, rate_window: str, span: str) -> str:
    """A query with Grafana's variables replaced.

    Args:
        run: the run's name.
        rate_window: for `$__rate_interval`, as "1m".
        span: for `$__range`, as "1h".

    Raises:
        ValueError: it has a variable that nothing is known of.
    """
    values = {"$__rate_interval": rate_window, "$__range": span, "$run": run}
    for variable, value in values.items():
        promql = promql.replace(variable, value)
    if re.search(r"\$(?!\d)", promql):  # $1 is a group of label_replace's own
        raise ValueError(f"a variable without a value in {promql!r}; known: {', '.join(values)}")
    return promql


def _panel(raw: Mapping[str, Any]) -> Panel:
    place, defaults = raw["gridPos"], raw.get("fieldConfig", {}).get("defaults", {})
    custom, options = defaults.get("custom", {}), raw.get("options", {})
    steps = defaults.get("thresholds", {}).get("steps", [])
    return Panel(
        kind=raw["type"],
        title=raw["title"],
        description=raw.get("description", ""),
        x=place["x"],
        y=place["y"],
        width=place["w"],
        height=place["h"],
        queries=tuple(Query(t["expr"], t["legendFormat"]) for t in raw.get("targets", [])),
        unit=defaults.get("unit", ""),
        decimals=defaults.get("decimals"),
        minimum=defaults.get("min"),
        maximum=defaults.get("max"),
        thresholds=tuple(
            (float("-inf") if step["value"] is None else step["value"], step["color"])
            for step in steps
        ),
        mappings=_mappings(defaults.get("mappings", [])),
        stacked=custom.get("stacking", {}).get("mode") == "normal",
        bars=custom.get("drawStyle") == "bars",
        log_scale=custom.get("scaleDistribution", {}).get("type") == "log",
        shows_thresholds=custom.get("thresholdsStyle", {}).get("mode", "off") != "off",
        text_mode=options.get("textMode", "value"),
        colour_mode=options.get("colorMode", "none"),
        repeat=raw.get("repeat"),
        most_per_row=raw.get("maxPerRow", 4),
    )


def _variable(raw: Mapping[str, Any]) -> Variable:
    asked = re.fullmatch(r"label_values\((.+), (\w+)\)", raw["query"]["query"])
    assert asked is not None, "the dashboard's panels repeat for values of a label"
    regex = raw["regex"].removeprefix("/").removesuffix("/")
    return Variable(
        name=raw["name"],
        selector=asked[1],
        label=asked[2],
        regex=re.sub(r"\(\?<(?=\w)", "(?P<", regex),  # JavaScript's named groups
    )


def _with_option(panel: Panel, option: Option) -> Panel:
    """Fills in what the panel repeats for."""

    def filled(text: str) -> str:
        text = text.replace(f"${{{panel.repeat}:text}}", option.text)
        return text.replace(f"${panel.repeat}", option.value)

    queries = tuple(Query(filled(q.promql), q.legend) for q in panel.queries)
    return replace(panel, title=filled(panel.title), queries=queries)


def _mappings(raw: list[Mapping[str, Any]]) -> dict[float, tuple[str, str]]:
    return {
        float(value): (result["text"], result["color"])
        for mapping in raw
        if mapping["type"] == "value"
        for value, result in mapping["options"].items()
    }
