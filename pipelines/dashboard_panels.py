"""The panels of a Grafana dashboard file: what each asks Prometheus, and how it shows the answer.

Read is what deploy/grafana/dashboards/recsys_mtl.json uses, not all that Grafana knows.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
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
    """Of the axis; None leaves it to the data."""
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
    """Of a stat: `value`, `name` or `value_and_name`."""
    colour_mode: str
    """Of a stat, what its threshold colours: `value`, `background` or `none`."""


def read_panels(dashboard: Path = DASHBOARD) -> list[Panel]:
    """The panels of a dashboard file, headings included, in the file's order."""
    return [_panel(raw) for raw in json.loads(dashboard.read_text())["panels"]]


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
    if "$" in promql:
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
    )


def _mappings(raw: list[Mapping[str, Any]]) -> dict[float, tuple[str, str]]:
    return {
        float(value): (result["text"], result["color"])
        for mapping in raw
        if mapping["type"] == "value"
        for value, result in mapping["options"].items()
    }
