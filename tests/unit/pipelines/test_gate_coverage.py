"""The experiment on the gate's intervals runs, and prints one line per world."""

import pytest

from pipelines.experiments import gate_coverage


def test_it_prints_how_often_each_worlds_intervals_hold_the_truth(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate_coverage, "WORLDS", gate_coverage.WORLDS[:1])
    monkeypatch.setattr(gate_coverage, "ROWS_OF_A_LARGE_LOG", 1_000)
    gate_coverage.main(["--logs", "3"])
    *_, line = (line for line in capsys.readouterr().out.splitlines() if line.strip())
    *_, by_user, by_row = (float(number) for number in line.split()[-2:])
    assert {by_user, by_row} <= {0.0, 0.333, 0.667, 1.0}
