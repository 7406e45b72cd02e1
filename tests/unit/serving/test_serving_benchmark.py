"""The benchmark of a bundle measures what it says, and says what it cannot measure."""

from pathlib import Path

import pytest

from pipelines.benchmarks.serving import main, measure
from tests.unit.serving.conftest import Served


def test_it_measures_every_number_of_rows(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(served.folder), "--requests", "2"])
    said = capsys.readouterr().out
    assert "loaded and verified in" in said
    for rows in ("1", "100", "1,000"):
        assert f"in this process │ {rows:>5} │" in said


def test_the_first_requests_are_not_counted() -> None:
    asked: list[int] = []
    assert len(measure(lambda rows: asked.append(len(rows)), [{}] * 7, requests=20)) == 20
    assert asked == [7] * 23


def test_a_bundle_or_a_server_that_is_not_there_is_said(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, status in (
        ([str(tmp_path)], 2),
        ([str(served.folder), "--requests", "1", "--url", "http://127.0.0.1:9/score"], 1),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == status
        assert "serving: " in capsys.readouterr().err
