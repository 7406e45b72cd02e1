"""Writes Prometheus's rules as the object that the Prometheus operator takes.

python deploy/kustomize/render_rules.py
"""

import textwrap
from pathlib import Path

RULES = Path(__file__).parents[1] / "prometheus/recsys_mtl.rules.yaml"
PROMETHEUS_RULE = Path(__file__).parent / "monitoring/prometheus-rule.yaml"

_HEADER = """\
# Made from deploy/prometheus/recsys_mtl.rules.yaml by deploy/kustomize/render_rules.py: change that
# file, then run this script.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: recsys-mtl
  labels:
    app.kubernetes.io/part-of: recsys-mtl
spec:
"""


def render(rules: str) -> str:
    """The PrometheusRule of a rules file: its text, comments included, becomes the spec."""
    return _HEADER + textwrap.indent(rules, "  ")


if __name__ == "__main__":
    PROMETHEUS_RULE.write_text(render(RULES.read_text(encoding="utf-8")), encoding="utf-8")
