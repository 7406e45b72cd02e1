"""What is told first of a training that has failed."""

import pytest
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from recsys_mtl.driver.ray_train import _first_failure


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            WorkerGroupError("", {1: ValueError("no"), 0: TimeoutError("Traceback:\n  no batch")}),
            "worker 0: no batch",
        ),
        (WorkerGroupError("", {2: AssertionError()}), "worker 2: AssertionError"),
        (ControllerError(ValueError("no resources\nfor 15 minutes")), "for 15 minutes"),
    ],
)
def test_one_line_says_which_worker_failed_of_what(error: TrainingFailedError, told: str) -> None:
    assert _first_failure(error).strip() == told


def test_a_long_error_is_cut() -> None:
    told = _first_failure(WorkerGroupError("", {0: RuntimeError("word " * 200)}))
    assert len(told) < 200
    assert told.endswith(" ...")
