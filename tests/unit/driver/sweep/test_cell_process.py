"""The process of one cell: how it ends."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_mtl.driver.sweep import cell_process

LIVES_ON = """
import time
from recsys_mtl.driver.sweep.cell_process import end_with_standard_input
end_with_standard_input()
print("ready", flush=True)
time.sleep(600)
"""


def test_it_gets_sigterm_once_its_standard_input_is_closed_as_by_a_sweep_that_was_killed() -> None:
    command = [sys.executable, "-c", LIVES_ON]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=120) == -signal.SIGTERM
    process.stdout.close()


def test_a_refusal_has_the_status_and_the_event_of_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cell_process.main([str(tmp_path / "missing.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "refused"
    assert "missing.yaml: cannot be read" in json.loads(line)["message"]
