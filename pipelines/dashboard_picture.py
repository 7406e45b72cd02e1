"""A picture of the Grafana dashboard, drawn from Prometheus's answers without Grafana.

    python -m pipelines.dashboard_picture --prometheus http://localhost:9090 --run demo \
        --out dashboard.png

Every panel of deploy/grafana/dashboards/recsys_mtl.json, with its queries and where the dashboard
has it. Without --start and --end it shows the run from its first start to its end, or to now.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np

from pipelines.benchmarks.measure import positive_int
from pipelines.dashboard_figure import FloatArray, Series, draw_dashboard, place
from pipelines.dashboard_panels import fill, read_panels, read_variables, repeated
from recsys_mtl.config import UserError

LOOKBACK_DAYS = 15
"""Where a run is looked for: what Prometheus keeps unless told otherwise."""
POINTS = 300
"""About as many as a panel has room for."""
AFTER_END_SECONDS = 30
"""A run that has ended is scraped twice more: its last values."""
ANSWER_SECONDS = 30


class PictureError(UserError):
    """There is nothing to draw; the message says what to do."""


@dataclass(frozen=True)
class Prometheus:
    """Prometheus's HTTP API."""

    url: str

    def runs(self, start: float, end: float) -> list[str]:
        """Names of the runs with samples in between, sorted."""
        return sorted(self.label_values("recsys_mtl_run_info", "run", start, end))

    def label_values(self, selector: str, label: str, start: float, end: float) -> list[str]:
        """Values of a label of the series with samples in between."""
        asked = {"match[]": selector, "start": start, "end": end}
        return list(self._get(f"label/{label}/values", asked))

    def number(self, promql: str, at: float) -> float | None:
        """The value of a query with at most one series; None where there is none."""
        result = self._get("query", {"query": promql, "time": at})["result"]
        return float(result[0]["value"][1]) if result else None

    def series(
        self, promql: str, start: float, end: float, step: float
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Labels, and pairs of Unix seconds and value, of every series."""
        asked = {"query": promql, "start": start, "end": end, "step": step}
        return [
            (found["metric"], [(float(t), float(value)) for t, value in found["values"]])
            for found in self._get("query_range", asked)["result"]
        ]

    def _get(self, path: str, asked: dict[str, Any]) -> Any:
        url = f"{self.url.rstrip('/')}/api/v1/{path}?{urlencode(asked)}"
        try:
            with urlopen(url, timeout=ANSWER_SECONDS) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            said = _message(error.read()) or f"status {error.code}"
            raise PictureError(f"Prometheus at {self.url} refuses a query: {said}") from None
        except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
            raise PictureError(
                f"no Prometheus answers at {self.url} ({error}); give the URL that its web page "
                "has, as --prometheus http://localhost:9090"
            ) from None


def draw(
    prometheus: Prometheus,
    run: str,
    out: Path,
    *,
    start: float | None,
    end: float | None,
    step: float | None,
    rate_window: int,
) -> None:
    """Draw a run's dashboard.

    Args:
        start, end: Unix seconds; None takes the run's own.
        step: seconds between points; None takes a 300th of the time shown.
        rate_window: seconds, for Grafana's `$__rate_interval`.

    Raises:
        PictureError: Prometheus does not answer or does not know the run in that time, or `out`
            has no folder.
    """
    if not out.parent.is_dir():
        raise PictureError(f"{out.parent} is no folder; make it, or give another --out")
    first, last = start, end
    if first is None or last is None:
        known_first, known_last = span(prometheus, run)
        first = known_first if first is None else first
        last = known_last if last is None else last
    if first >= last:
        raise PictureError("--start is not before --end, or not before the run's end; move it")
    runs = prometheus.runs(first, last)
    if run not in runs:
        raise _unknown(prometheus, run, runs)
    step = step or max(1.0, round((last - first) / POINTS))
    times = np.arange(first, last + step / 2, step)
    known = {
        "run": run,
        "rate_window": f"{rate_window}s",
        "span": f"{max(1, round(last - first))}s",
    }
    options = {
        variable.name: variable.options(
            prometheus.label_values(fill(variable.selector, **known), variable.label, first, last)
        )
        for variable in read_variables()
    }
    panels, answers = repeated(read_panels(), options), {}
    for panel in panels:
        queries = [(query, fill(query.promql, **known)) for query in panel.queries]
        answers[place(panel)] = [
            Series(query.name(labels), _on_grid(points, times, step))
            for query, promql in queries
            for labels, points in prometheus.series(promql, first, last, step)
        ]
    draw_dashboard(f"recsys_mtl run {run}", panels, answers, times, out)


def span(prometheus: Prometheus, run: str) -> tuple[float, float]:
    """Unix seconds of a run's first start, and of its end or now.

    Raises:
        PictureError: Prometheus does not know the run.
    """
    now = time.time()

    def newest(function: str, metric: str) -> float | None:
        return prometheus.number(
            f'{function}({function}_over_time({metric}{{run="{run}"}}[{LOOKBACK_DAYS}d]))', now
        )

    runs = prometheus.runs(now - LOOKBACK_DAYS * 86400, now)
    start = newest("min", "recsys_mtl_run_start_timestamp_seconds") if run in runs else None
    if start is None:
        raise _unknown(prometheus, run, runs)
    running = f'max(recsys_mtl_run_state{{run="{run}",state="running"}})'
    if prometheus.number(running, now) == 1:
        return start, now
    ends = [
        newest("max", f"recsys_mtl_{name}_timestamp_seconds") for name in ("run_end", "updated")
    ]
    return start, min(now, max(end for end in (*ends, start) if end) + AFTER_END_SECONDS)


def _unknown(prometheus: Prometheus, run: str, runs: Sequence[str]) -> PictureError:
    has = f"it has {', '.join(runs)}" if runs else "it has no run"
    return PictureError(f"Prometheus at {prometheus.url} has no run {run!r} in that time; {has}")


def _on_grid(points: Sequence[tuple[float, float]], times: FloatArray, step: float) -> FloatArray:
    """The values at `times` [N]; NaN where there is none."""
    values = np.full(len(times), np.nan)
    for seconds, value in points:
        index = round((seconds - times[0]) / step)
        if 0 <= index < len(values):
            values[index] = value
    return values


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return ""


def _unix_seconds(text: str) -> float:
    """From a number, or from a time like 2026-11-30T12:00:00Z; in UTC unless it says otherwise."""
    for read in (float, _of_iso_time):
        try:
            return read(text)
        except ValueError:
            continue
    raise argparse.ArgumentTypeError(f"{text} is no time; write it as 2026-11-30T12:00:00Z")


def _of_iso_time(text: str) -> float:
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 2 and one sentence when there is nothing to draw."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.dashboard_picture",
        description="Draw the Grafana dashboard of a run from Prometheus's answers.",
    )
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--run", required=True, help="the run's name")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    for name, default in (("--start", "its start"), ("--end", "its end, or now")):
        parser.add_argument(
            name,
            type=_unix_seconds,
            metavar="TIME",
            help=f"Unix seconds, or 2026-11-30T12:00:00Z; default: {default}",
        )
    parser.add_argument("--step", type=positive_int, metavar="SECONDS", help="between points")
    parser.add_argument(
        "--rate-window",
        type=positive_int,
        default=60,
        metavar="SECONDS",
        help="of rates; at least four scrape intervals (%(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        draw(
            Prometheus(options.prometheus),
            options.run,
            options.out,
            start=options.start,
            end=options.end,
            step=options.step,
            rate_window=options.rate_window,
        )
    except PictureError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{options.out} cannot be written ({error.strerror}); give another --out")
    print(options.out)


if __name__ == "__main__":
    main()
