"""From pooled embeddings to updates nothing waits for the device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS_A_VALUE = {"HostAccessError", "DataDependentOutputException", "DynamicOutputShapeException"}


@pytest.fixture(scope="module")
def ends() -> dict[str, str]:
    """Case to the exception it ended with; in a process of its own, since it defines a device."""
    command = [sys.executable, "-m", "tests.unit.steps_without_values"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    return dict(json.loads(found.stdout))


def test_a_step_never_waits_for_the_device(ends: dict[str, str]) -> None:
    steps = {case: end for case, end in ends.items() if not case.startswith("planted")}
    # 15 of one method and mode for each of 3 bodies, but for what the representation cannot give
    # (gradnorm its layers; to a body with shared layers above it, anything), and uniform; and
    # searches of each body and of 2 modes: with and without clipping. And one whose rows count by
    # weights.
    assert len(steps) == 2 * (3 * 15 - 3 - 2 + 3 + 3 + 2) + 1
    assert {case: end for case, end in steps.items() if end != "none"} == {}


@pytest.mark.parametrize(
    "fault",
    [
        "item",
        "tolist",
        "bool",
        "cpu",
        "to",
        "copy_",
        "to the host at once",
        "to the device",
        "copy_ to the device",
        "tensor",
        "numpy",
        "unique",
        "solve",
    ],
)
def test_one_planted_access_to_the_host_is_found(ends: dict[str, str], fault: str) -> None:
    assert ends[f"planted {fault}"] in NEEDS_A_VALUE
