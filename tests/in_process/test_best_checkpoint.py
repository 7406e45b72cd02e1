"""The best checkpoint, and runs that end early, without Ray."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.committed import CommittedCheckpoint, best_of, checkpoints_of
from recsys_mtl.driver.launch import launch
from recsys_mtl.driver.storage import Folder
from recsys_mtl.driver.trained_run import open_run
from recsys_mtl.metrics.trace import read_trace
from tests.end_to_end.runs import Place, make_place, started, wait_until

STEPS, INTERVAL = 60, 5
# Cart is noise: the more is learnt of it, the worse is its evaluation.
COMPARED = (
    "cluster.num_workers=0",
    "optimizer.dense.learning_rate=0.5",
    "optimizer.tables.learning_rate=0.5",
    "optimizer.schedule={kind: cosine, final_factor: 0.1}",
    "training.epochs=null",
    f"training.max_steps={STEPS}",
    f"training.evaluation_interval_steps={INTERVAL}",
    "training.checkpoint_interval_steps=7",
    "training.best_by=log_loss:cart",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("best"))


def train(place: Place, run: str, *more: str) -> dict[str, Any]:
    return launch(load_config(place.yaml, (f"run.name={run}", *COMPARED, *more)))


def index_of(place: Place, run: str) -> list[CommittedCheckpoint]:
    return checkpoints_of(Folder(f"{place.runs}/{run}"))


def trace_of(place: Place, run: str) -> pd.DataFrame:
    trace = read_trace(f"{place.runs}/{run}/trace").to_pandas()
    return trace[[c for c in trace.columns if not c.startswith(("seconds_", "attempt"))]]


@pytest.fixture(scope="module")
def whole(place: Place) -> dict[str, Any]:
    """The result of a run that keeps every checkpoint and never ends early."""
    return train(place, "whole", "training.checkpoints_kept=100")


@pytest.fixture(scope="module")
def scores(place: Place, whole: dict[str, Any]) -> dict[int, float]:
    """Evaluated step to its score, the larger the better."""
    return {c.step: c.score for c in index_of(place, "whole") if c.score is not None}


def stop_of(scores: dict[int, float], patience: int) -> int:
    """The step at which so many evaluations have not been better than the best before them."""
    steps = sorted(scores)
    for place, step in enumerate(steps):
        best = max(range(place + 1), key=lambda i: scores[steps[i]])
        if place - best >= patience:
            return step
    raise AssertionError(f"patience {patience} never ends: {scores}")


def test_each_evaluation_has_a_checkpoint_and_only_those_have_scores(
    place: Place, whole: dict[str, Any], scores: dict[int, float]
) -> None:
    assert sorted(scores) == list(range(INTERVAL, STEPS + 1, INTERVAL))
    others = {c.step for c in index_of(place, "whole") if c.score is None}
    assert others == {*range(7, STEPS, 7), STEPS} - {35}  # 35 is evaluated, too
    assert scores[STEPS] == -whole["tasks"]["cart"]["log_loss"]


def test_the_result_has_the_best_evaluation_beside_the_last(
    place: Place, whole: dict[str, Any], scores: dict[int, float]
) -> None:
    step = max(scores, key=lambda s: scores[s])
    assert INTERVAL < step < STEPS, "this log tells the best from the first and the last"
    best = whole["best"]
    assert (best["step"], best["value"], best["by"]) == (step, -scores[step], "log_loss:cart")
    assert best["tasks"]["cart"]["log_loss"] == best["value"]
    assert best["tasks"].keys() == {"purchase", "cart", "wish"}
    assert best["evaluations_since"] == (STEPS - step) // INTERVAL
    assert whole["stopped_early"] is False
    found = open_run(f"{place.runs}/whole", "best")
    assert (found.checkpoint.name, found.metadata.step) == (best["checkpoint"], step)
    assert found.metadata.evaluation == best["tasks"]


def test_a_run_ends_early_when_patience_does_with_the_best_checkpoint_kept(
    place: Place, whole: dict[str, Any], scores: dict[int, float]
) -> None:
    run, patience = "impatient", 3
    result = train(
        place, run, f"training.patience_evaluations={patience}", "training.checkpoints_kept=1"
    )
    stop = stop_of(scores, patience)
    assert stop < STEPS
    assert (result["steps"], result["stopped_early"], result["finished"]) == (stop, True, True)
    before = {step: score for step, score in scores.items() if step <= stop}
    step = max(before, key=lambda s: before[s])
    assert (result["best"]["step"], result["best"]["evaluations_since"]) == (step, patience)
    assert result["tasks"]["cart"]["log_loss"] == -scores[stop]
    kept = index_of(place, run)
    assert [(c.step, c.score) for c in kept] == [(step, scores[step]), (stop, scores[stop])]
    there = {path.name for path in Path(f"{place.runs}/{run}").glob("*checkpoint_*")}
    assert there == {c.name for c in kept}
    whole_trace = trace_of(place, "whole")
    pd.testing.assert_frame_equal(trace_of(place, run), whole_trace[whole_trace.step <= stop])


def test_a_run_that_ended_early_is_finished_until_it_may_go_on(
    place: Place, scores: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    patience = ("training.patience_evaluations=2",)
    first = train(place, "goes_on", *patience)
    stop, trace = first["steps"], trace_of(place, "goes_on")
    assert first["stopped_early"]
    capsys.readouterr()
    for again in (patience, ("training.patience_evaluations=1",)):
        assert train(place, "goes_on", *again) == first
        told = capsys.readouterr().out
        assert f"stopped early, at step {stop} of {STEPS}; a larger training.patience" in told
    assert len(trace_of(place, "goes_on")) == len(trace)
    with pytest.raises(UserError, match=rf"has trained {stop} steps, more than the 5 "):
        train(place, "goes_on", *patience, "training.max_steps=5")

    after = train(place, "goes_on", "training.patience_evaluations=100")
    assert (after["steps"], after["stopped_early"]) == (STEPS, False)
    assert after["best"]["value"] == -max(scores.values())
    pd.testing.assert_frame_equal(trace_of(place, "goes_on"), trace_of(place, "whole"))


def test_a_run_that_was_killed_ends_where_an_undisturbed_one_does(
    place: Place, scores: dict[int, float]
) -> None:
    patience = ("training.patience_evaluations=3", "training.checkpoints_kept=1")
    sets = ("run.name=killed", *COMPARED, *patience)
    command = ["train", place.yaml, *(part for o in sets for part in ("--set", o))]
    process, _ = started(dict(os.environ), *command, until="run")
    wait_until(
        lambda: any(c.score is not None for c in index_of(place, "killed")),
        timeout_seconds=120,
        what="a scored checkpoint",
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (Path(place.runs) / "killed" / "result.json").exists(), "it was killed in time"
    result = train(place, "killed", *patience)
    assert (result["steps"], result["stopped_early"]) == (stop_of(scores, 3), True)
    best = best_of(index_of(place, "killed"))
    assert best is not None
    assert (best.name, best.score) == (result["best"]["checkpoint"], scores[best.step])


def test_another_measure_begins_the_comparison_anew(place: Place) -> None:
    train(place, "turned", "training.max_steps=20")
    result = train(place, "turned", "training.max_steps=30", "training.best_by=auc:wish")
    assert result["best"]["by"] == "auc:wish"
    assert result["best"]["step"] in (25, 30)
    assert result["best"]["evaluations_since"] == (30 - result["best"]["step"]) // INTERVAL
    found = index_of(place, "turned")
    assert {c.step for c in found if c.score is not None} == {25, 30}


def test_labels_of_one_kind_have_no_best_and_end_nothing_early(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(place.folder / "eval" / "0.parquet")
    pq.write_table(table.filter(pc.equal(table["cart"], 0)), tmp_path / "one_kind.parquet")
    result = train(
        place,
        "one_kind",
        f"data.eval={tmp_path}/one_kind.parquet",
        "training.best_by=mean_auc",
        "training.patience_evaluations=1",
        "training.max_steps=20",
    )
    assert (result["steps"], result["stopped_early"]) == (20, False)
    assert (result["best"]["step"], result["best"]["checkpoint"]) == (None, None)
    assert "no evaluation has a mean_auc, so none is the best" in capsys.readouterr().out
    with pytest.raises(UserError, match="has a score"):
        open_run(f"{place.runs}/one_kind", "best")


def test_learning_rates_and_the_schedule_may_change_when_a_run_goes_on(place: Place) -> None:
    half = ("training.max_steps=10", "optimizer.dense.learning_rate=0.1")
    train(place, "rates", *half, "optimizer.schedule={kind: linear}")
    train(place, "rates", "training.warm_up_steps=4", "training.max_steps=20")
    factors = trace_of(place, "rates").learning_rate_factor.tolist()
    assert factors[:10] == pytest.approx([1 - step / 10 for step in range(10)])
    config = load_config(place.yaml, COMPARED).optimizer.schedule
    assert config.kind == "cosine"
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[10] > factors[9]
    assert 0.1 < factors[-1] < 0.2


def test_numbers_of_a_run_are_plain_json(place: Place, whole: dict[str, Any]) -> None:
    text = (Path(place.runs) / "whole" / "result.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == whole
