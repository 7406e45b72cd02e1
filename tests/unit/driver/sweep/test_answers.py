"""What a test log has said of a cell, and which training it was said of."""

import json
from pathlib import Path
from typing import Any

import pytest

from recsys_mtl.config import UserError
from recsys_mtl.driver.sweep.answers import answer_text, read_answer, training_digest
from recsys_mtl.driver.sweep.cells import Cell
from recsys_mtl.driver.sweep.folder import SweepFolder
from tests.unit.driver.sweep.sweeps import UNIFORM, cells_of, log, result

RESULT = result({"purchase": 0.8, "cart": 0.7}, wall_seconds=11.5, world_size=2)
FOUND = {
    "run": {"url": "runs/a", "checkpoint": "c1", "step": 20},
    "digest": "digest-of-later",
    "tasks": {"purchase": {"auc": 0.78}, "cart": {"auc": None}},
}


def test_an_answer_is_read_for_the_training_and_the_log_that_it_is_of() -> None:
    text = answer_text(FOUND, RESULT)
    read_back = json.loads(json.dumps(RESULT))
    assert read_answer(text, read_back, "digest-of-later") == FOUND | {
        "training": training_digest(RESULT)
    }


@pytest.mark.parametrize(
    ("changed", "test"),
    [
        ({"wall_seconds": 11.6}, "digest-of-later"),
        ({"tasks": result({"purchase": 0.8, "cart": 0.7000001})["tasks"]}, "digest-of-later"),
        ({}, "digest-of-latest"),
    ],
    ids=["trained again", "another model", "another log"],
)
def test_an_answer_of_another_training_or_log_is_none(changed: dict[str, Any], test: str) -> None:
    assert read_answer(answer_text(FOUND, RESULT), RESULT | changed, test) is None


@pytest.mark.parametrize("kept", [0, 1, 40, -2])
def test_a_damaged_answer_is_none(kept: int) -> None:
    text = answer_text(FOUND, RESULT)
    assert read_answer(text[:kept], RESULT, "digest-of-later") is None


@pytest.mark.parametrize(
    "changed",
    [{"run": {"step": 19}}, {"run": None}, {"tasks": {"cart": {"auc": 0.7}}}, {"tasks": []}],
)
def test_an_answer_of_another_step_or_of_other_tasks_is_none(changed: dict[str, Any]) -> None:
    assert read_answer(answer_text(FOUND | changed, RESULT), RESULT, "digest-of-later") is None


def test_a_cell_that_was_trained_anew_counts_as_not_judged(tmp_path: Path) -> None:
    place, later = SweepFolder(str(tmp_path)), log("later")
    (cell,) = cells_of(tmp_path, [UNIFORM], (1,))
    write_run_folder(cell, RESULT)
    answer = place.answer_of(cell, later)
    answer.parent.mkdir()
    answer.write_bytes(answer_text(FOUND, RESULT))
    assert place.outcome(cell, later, None).test_auc["purchase"] == 0.78
    assert place.trainings([cell]) == {cell.name: training_digest(RESULT)}
    write_run_folder(cell, RESULT | {"wall_seconds": 12.0})
    after = SweepFolder(str(tmp_path)).outcome(cell, later, None)
    assert (after.status, after.test, after.test_auc) == ("finished", None, {})
    Path(cell.url, "result.json").write_text('{"steps": 2')
    with pytest.raises(UserError, match=r"seed1/result\.json is damaged; restore it, or delete "):
        SweepFolder(str(tmp_path)).outcome(cell, later, None)


def write_run_folder(cell: Cell, result: dict[str, Any]) -> None:
    """What a sweep reads of a finished run."""
    folder = Path(cell.url)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(cell.config.to_yaml())
    (folder / "local_checkpoints.json").write_text('{"checkpoints": []}')
    (folder / "result.json").write_text(json.dumps(result))
