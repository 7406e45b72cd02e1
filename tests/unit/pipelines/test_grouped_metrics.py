"""The benchmark of GAUC and the gate says what it took, and judges two equal models."""

import pytest

from pipelines.benchmarks.grouped_metrics import main


def test_it_prints_the_results_their_seconds_and_the_peak_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["--rows", "3000", "--groups", "500", "--tasks", "2", "--gate"])
    printed = capsys.readouterr().out
    assert printed.count("GroupAuc(gauc=0.") == 2
    assert "these 3,000 rows cannot tell (task0: drop in AUC" in printed
    for part in ("rows written: ", "GAUC: ", "gate: ", "peak memory "):
        assert part in printed
