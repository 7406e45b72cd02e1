"""What stands on a page, as Prometheus reads it."""

import urllib.request

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

Page = dict[str, Metric]
"""Families by name."""


def read_page(text: bytes) -> Page:
    """The families of a page; a family that stands there twice is an error."""
    families = list(text_string_to_metric_families(text.decode()))
    page = {family.name: family for family in families}
    assert len(page) == len(families)
    return page


def value(page: Page, family: str, **labels: str) -> float:
    """Of the one sample with exactly these labels, besides the run's."""
    wanted = {"run": "demo"} | labels
    (found,) = [s.value for s in page[f"recsys_mtl_{family}"].samples if s.labels == wanted]
    return float(found)


def counts(page: Page) -> dict[tuple[str, ...], float]:
    """Whatever must never go down: counters, and the parts of histograms."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in page.values()
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def scrape(port: int) -> Page:
    """The page that an exporter serves on this machine."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return read_page(answer.read())
