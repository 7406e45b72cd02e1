"""The Grafana dashboard: its file, its queries against a real Prometheus, and its picture."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from PIL import Image

from pipelines import dashboard_picture
from pipelines.dashboard_panels import DASHBOARD, Query, fill
from pipelines.dashboard_units import spelled
from tests.deploy.dashboard import METRICS, annotation_queries, metrics_in, queries
from tests.deploy.run_history import MINUTES, openmetrics

DEPLOY = DASHBOARD.parents[2]
RAW: dict[str, Any] = json.loads(DASHBOARD.read_text())
PANELS: list[dict[str, Any]] = RAW["panels"]
DRAWN = [panel for panel in PANELS if panel["type"] != "row"]

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")) and not os.environ.get("CI"),
    reason="prometheus and promtool are not installed",
)


@pytest.mark.parametrize("panel", DRAWN, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [t["datasource"] for t in panel["targets"]] == [panel["datasource"]] * len(
        panel["targets"]
    )
    assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("panel", DRAWN, ids=lambda panel: panel["title"])
def test_a_legend_names_every_label_that_its_query_keeps(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        kept = {
            label.strip()
            for clause in _between(target["expr"], " by (", ")")
            for label in clause.split(",")
        } - {"le"}
        assert kept == set(_between(target["legendFormat"], "{{", "}}"))


def test_panels_have_their_own_ids_and_titles() -> None:
    for key in ("id", "title"):
        values = [panel[key] for panel in DRAWN]
        assert len(set(values)) == len(values)


def test_panels_fill_the_grid_without_overlap() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (a, b)
    height = max(place["y"] + place["h"] for place in places)
    assert sum(place["w"] * place["h"] for place in places) == 24 * height


def test_headings_and_panels_stand_in_the_order_of_the_page() -> None:
    order = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in PANELS]
    assert all(a < b for a, b in pairwise(order))
    assert PANELS[0]["type"] == "row"


def test_the_dashboard_asks_for_a_data_source_and_a_run() -> None:
    source, run, _ = RAW["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert (run["name"], run["multi"], run["includeAll"]) == ("run", False, False)
    assert run["query"]["query"] == "label_values(recsys_mtl_run_info, run)"


def test_every_selector_is_of_the_chosen_run() -> None:
    for title, promql in queries("chosen"):
        selectors = _between(promql, "{", "}")
        assert selectors, title
        assert all('run="chosen"' in selector for selector in selectors), title


def test_queries_ask_only_for_metrics_that_runs_have() -> None:
    asked = {m for _, promql in queries("r") + annotation_queries("r") for m in metrics_in(promql)}
    assert asked <= set(METRICS)
    # What no panel shows is no use to anyone who looks at the dashboard.
    unseen = {"recsys_mtl_run_end_timestamp_seconds", "recsys_mtl_updated_timestamp_seconds"}
    assert set(METRICS) - asked == unseen


def test_rates_cover_what_grafana_says_they_must() -> None:
    for target in (target for panel in DRAWN for target in panel["targets"]):
        # With the step of a subquery, where families without a common name are asked for.
        windows = {window.partition(":")[0] for window in _between(target["expr"], "[", "]")}
        # The last value of all that is shown is no rate.
        shown = {"$__range"} if "last_over_time(" in target["expr"] else set()
        assert windows <= {"$__rate_interval"} | shown


@needs_prometheus
def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": promql}
        for number, (_, promql) in enumerate(queries("r") + annotation_queries("r"))
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_grafana_finds_dashboard_and_data_source_by_file() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/recsys_mtl.yaml").read_text())[
        "providers"
    ]
    assert (provider["type"], Path(provider["options"]["path"]).name) == ("file", "dashboards")
    sources = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())
    (source,) = sources["datasources"]
    scraping = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert source["type"] == "prometheus"
    # $__rate_interval is four of these: with less, rates of a run are without data.
    assert source["jsonData"]["timeInterval"] == scraping["global"]["scrape_interval"]


@pytest.fixture(scope="module")
def started() -> float:
    """Unix seconds at which the run in Prometheus was started; it has ended."""
    return float(int(time.time()) - 2 * MINUTES * 60)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, started: float) -> Iterator[str]:
    """URL of a Prometheus that has scraped one run."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "history.om").write_text(openmetrics("clicks", started))
    (folder / "prometheus.yml").write_text("global: {scrape_interval: 15s}\n")
    data = folder / "data"
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "history.om", data],
        check=True,
        capture_output=True,
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
    )
    try:
        _wait_for(f"http://{address}/-/ready", process)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@needs_prometheus
def test_every_query_has_data_in_a_healthy_run(prometheus: str, started: float) -> None:
    at = started + (MINUTES - 1) * 60
    without = [
        title
        for title, promql in queries("clicks")
        if not _get(f"{prometheus}/api/v1/query", query=promql, time=at)["result"]
    ]
    assert without == []


@needs_prometheus
def test_the_run_variable_offers_the_run(prometheus: str, started: float) -> None:
    window = {"start": started, "end": started + MINUTES * 60}
    asked = {"match[]": "recsys_mtl_run_info", **window}
    assert _get(f"{prometheus}/api/v1/label/run/values", **asked) == ["clicks"]


@needs_prometheus
def test_the_picture_shows_the_run_to_its_end(
    prometheus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dashboard.png"
    dashboard_picture.main(["--prometheus", prometheus, "--run", "clicks", "--out", str(out)])
    assert capsys.readouterr().out == f"{out}\n"
    with Image.open(out) as picture:
        assert picture.width == 1920
        colours = {
            colour: count for count, colour in picture.convert("RGB").getcolors(1 << 24) or []
        }
    red, blue, finished = (0xB2, 0x18, 0x2B), (0x21, 0x66, 0xAC), (0x00, 0x9E, 0x73)
    assert colours[red] > 5_000  # cosines
    assert colours[blue] > 5_000
    assert colours[finished] > 40_000  # the state's and the alerts' panels, filled


@needs_prometheus
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"--run": "click"}, "no run 'click' in that time; it has clicks\n"),
        ({"--start": "1000", "--end": "2000"}, "no run 'clicks' in that time; it has no run\n"),
        (
            {"--start": "2020-01-02T00:00:00Z", "--end": "2020-01-01"},
            "or not before the run's end; move it\n",
        ),
        ({"--prometheus": "http://127.0.0.1:1"}, "as --prometheus http://localhost:9090\n"),
        ({"--out": "/no/such/folder/x.png"}, "make it, or give another --out\n"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_in_one_sentence(
    prometheus: str,
    started: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    asked: dict[str, str],
    said: str,
) -> None:
    out = tmp_path / "dashboard.png"
    arguments = {"--prometheus": prometheus, "--run": "clicks", "--out": str(out)} | asked
    with pytest.raises(SystemExit) as left:
        dashboard_picture.main([part for pair in arguments.items() for part in pair])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert error.endswith(said)
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_variable_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\$task"):
        fill('up{run="$run", task="$task"}', run="r", rate_window="1m", span="1h")


def test_a_legend_leaves_out_labels_that_a_series_lacks() -> None:
    assert Query("up", "{{method}} {{scope}}, {{device}}").name(
        {"method": "uniform", "device": "cpu"}
    ) == ("uniform , cpu")


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (0.25, "percentunit", None, "25 %"),
        (0.0, "s", 1, "0.0 s"),
        (0.0123, "s", None, "12.3 ms"),
        (5400.0, "s", 1, "1.5 h"),
        (84e6, "bytes", None, "80.1 MiB"),
        (6826.0, "rowsps", 1, "6.8 k rows/s"),
        (0.84617, "none", 4, "0.8462"),
        (7200.0, "short", None, "7.2 k"),
        (float("nan"), "s", 1, "-"),
        (float("inf"), "s", 1, "∞"),
    ],
)
def test_values_are_spelled_with_their_unit(
    value: float, unit: str, decimals: int | None, text: str
) -> None:
    assert spelled(value, unit, decimals) == text


def _between(text: str, opening: str, closing: str) -> list[str]:
    return [part.split(closing)[0] for part in text.split(opening)[1:]]


def _get(url: str, **asked: Any) -> Any:
    with urlopen(f"{url}?{urlencode(asked)}", timeout=30) as answer:
        return json.load(answer)["data"]


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            urlopen(url, timeout=5).close()
        except (URLError, OSError):
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{url} does not answer; Prometheus's status is {process.poll()}")
