"""From pooled embeddings to updates nothing waits for the device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("steps_without_values.py")
NEEDS_A_VALUE = {"HostAccessError", "DataDependentOutputException", "DynamicOutputShapeException"}


@pytest.fixture(scope="module")
def ends() -> dict[str, str]:
    """Case to the exception it ended with; in a process of its own, since it defines a device."""
    found = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr
    return dict(json.loads(found.stdout))


def test_a_step_never_waits_for_the_device(ends: dict[str, str]) -> None:
    steps = {case: end for case, end in ends.items() if not case.startswith("planted")}
    assert len(steps) == 12
    assert set(steps.values()) == {"none"}, steps


@pytest.mark.parametrize(
    "fault", ["item", "tolist", "bool", "cpu", "to", "copy_", "numpy", "unique", "solve"]
)
def test_one_planted_access_to_the_host_is_found(ends: dict[str, str], fault: str) -> None:
    assert ends[f"planted {fault}"] in NEEDS_A_VALUE
