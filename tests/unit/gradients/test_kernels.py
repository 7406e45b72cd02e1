"""The kernels, run by Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("cases", ["interpreted_memory.py", "interpreted_algebra.py"])
def test_kernels_pass_their_cases_in_the_interpreter(cases: str) -> None:
    # Triton decides as it is imported whether its functions are interpreted: a process of its own.
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", str(HERE / cases)]
    run = subprocess.run(
        command, env=environment, cwd=HERE.parents[2], capture_output=True, text=True
    )
    print(run.stdout, run.stderr)
    assert run.returncode == 0
