"""The recording and alerting rules, by Prometheus's own tools, and their runbook."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dashboard import METRICS, metrics_in

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
GROUPS = yaml.safe_load((FOLDER / "recsys_mtl.rules.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in RULES if "record" in rule}
TESTS = yaml.safe_load((FOLDER / "recsys_mtl.rules.test.yaml").read_text())["tests"]

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool") and not os.environ.get("CI"), reason="promtool is not installed"
)


@needs_promtool
def test_rules_behave_as_their_unit_tests_say() -> None:
    _promtool("test", "rules", FOLDER / "recsys_mtl.rules.test.yaml")


@needs_promtool
def test_prometheus_accepts_the_rules() -> None:
    _promtool("check", "rules", "--lint-fatal", FOLDER / "recsys_mtl.rules.yaml")


@needs_promtool
def test_prometheus_accepts_the_configuration() -> None:
    said = _promtool("check", "config", FOLDER / "prometheus.yml")
    assert f"{len(RULES)} rules found" in said


@needs_promtool
def test_prometheus_accepts_the_configuration_with_what_its_comments_offer(tmp_path: Path) -> None:
    token = tmp_path / "metrics_token"
    token.write_text("secret")
    text = (FOLDER / "prometheus.yml").read_text()
    for commented in ("# alerting:", "    # authorization:"):
        text = _uncommented(text, commented)
    text = text.replace("/etc/recsys_mtl/metrics_token", str(token))
    shutil.copy(FOLDER / "recsys_mtl.rules.yaml", tmp_path)
    (tmp_path / "prometheus.yml").write_text(text)
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["authorization"] == {"credentials_file": str(token)}
    _promtool("check", "config", tmp_path / "prometheus.yml")
    token.unlink()
    with pytest.raises(AssertionError, match="metrics_token"):
        _promtool("check", "config", tmp_path / "prometheus.yml")


def test_the_scrape_job_has_the_name_that_alerts_look_for() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    asked = re.findall(r'job="([^"]*)"', ALERTS["RecsysMtlTargetUnreachable"]["expr"])
    assert asked == [job["job_name"]]


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_and_of_what(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    named = "instance" if alert == "RecsysMtlTargetUnreachable" else "run"
    for text in ("summary", "description"):
        assert f"{{{{ $labels.{named} }}}}" in rule["annotations"][text]


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_leads_to_its_paragraph_of_the_runbook(alert: str) -> None:
    path, anchor = ALERTS[alert]["annotations"]["runbook"].split("#")
    sections = re.split(r"^## ", (ROOT / path).read_text(), flags=re.MULTILINE)
    (paragraph,) = [s for s in sections if s.splitlines()[0].lower() == anchor]
    assert paragraph.startswith(alert)
    for question in ("**Look first**", "**Usual causes:**", "**Do:**"):
        assert question in " ".join(paragraph.split())


def test_the_runbook_has_no_paragraph_without_an_alert() -> None:
    headings = re.findall(r"^## (RecsysMtl\w+)$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert headings == list(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_shown_to_fire_and_not_to_fire(alert: str) -> None:
    shown = [
        bool(case.get("exp_alerts"))
        for test in TESTS
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == alert
    ]
    assert set(shown) == {True, False}


@pytest.mark.parametrize("record", RECORDED)
def test_a_recorded_value_is_shown(record: str) -> None:
    shown = {
        case["expr"]
        for test in TESTS
        for case in test.get("promql_expr_test", [])
        if case.get("exp_samples")
    }
    assert record in shown


def test_rules_ask_only_for_metrics_that_runs_have_or_rules_record() -> None:
    for rule in RULES:
        assert set(metrics_in(rule["expr"])) <= {*METRICS, *RECORDED}, rule


def test_every_aggregation_keeps_what_tells_two_runs_apart() -> None:
    for rule in RULES:
        for kept in re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"]):
            labels = {label.strip() for label in kept.split(",")}
            assert {"cluster", "namespace"} <= labels, rule
            assert labels & {"run", "instance"}, rule


def _promtool(*arguments: str | Path) -> str:
    ended = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def _uncommented(text: str, first: str) -> str:
    """`text` with the block of comment that starts with the line `first` as what it describes."""
    lines, sign = text.splitlines(), first[: first.index("#") + 2]
    for i in range(lines.index(first), len(lines)):
        if not lines[i].startswith(sign):
            break
        lines[i] = lines[i].replace("# ", "", 1)
    return "\n".join(lines) + "\n"
