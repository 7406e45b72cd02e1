"""Which evaluation is the best, and when patience ends."""

import json
import math
import random
from typing import Any

import pytest

from recsys_mtl.config import Training
from recsys_mtl.worker.best import BestKeeper, score_of, scored_by


def numbers(auc: float, log_loss: float, not_finite: int = 0) -> dict[str, float]:
    """What an evaluation says of a task, as far as it is compared."""
    return {"auc": auc, "log_loss": log_loss, "not_finite": not_finite}


EVALUATION = {
    "purchase": numbers(0.75, 0.25),
    "cart": numbers(0.5, 0.125),
    "wish": numbers(math.nan, 0.5),
}
KNOWN = {task: EVALUATION[task] for task in ("purchase", "cart")}
MEASURED = "auc:cart@digest"


def keeper(
    best_by: str | None = "auc:cart", patience: int | None = None, digest: str = "digest"
) -> BestKeeper:
    training = Training(
        global_batch_size=8,
        best_by=best_by,
        patience_evaluations=patience,
        evaluation_interval_steps=1,
    )
    return BestKeeper(training, digest)


def evaluated(best: BestKeeper, *scores: float, first_step: int = 1) -> BestKeeper:
    """With one evaluation per step, whose AUC of cart is the score."""
    for step, auc in enumerate(scores, start=first_step):
        evaluation = {"cart": numbers(auc, 0.5)}
        best.add(step, evaluation, best.score(evaluation))
    return best


def summary(best: BestKeeper) -> dict[str, Any]:
    found = best.summary()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("best_by", "score"),
    [
        ("auc:purchase", 0.75),
        ("log_loss:purchase", -0.25),
        ("log_loss:wish", -0.5),
        ("mean_auc", 0.625),
    ],
)
def test_a_score_is_larger_for_the_better_evaluation(best_by: str, score: float) -> None:
    evaluation = KNOWN if best_by == "mean_auc" else EVALUATION
    assert score_of(best_by, evaluation) == score


@pytest.mark.parametrize("best_by", ["auc:wish", "mean_auc"])
def test_an_unknown_auc_makes_no_score(best_by: str) -> None:
    assert math.isnan(score_of(best_by, EVALUATION))


@pytest.mark.parametrize("best_by", ["log_loss:cart", "mean_auc"])
def test_predictions_that_are_not_finite_make_no_score(best_by: str) -> None:
    assert math.isnan(score_of(best_by, KNOWN | {"cart": numbers(0.9, 0.1, not_finite=3)}))


def test_the_best_and_its_step_are_those_of_the_largest_score() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    scores = random.Random(seed).sample(range(1000), 30)
    best = keeper()
    for step, score in enumerate(scores, start=1):
        evaluated(best, score, first_step=step)
        largest = max(scores[:step])
        found = summary(best)
        assert (found["value"], found["step"]) == (largest, scores.index(largest) + 1)
        assert found["tasks"] == {"cart": numbers(largest, 0.5)}
        assert found["evaluations_since"] == step - found["step"]


def test_the_value_of_a_log_loss_is_the_log_loss() -> None:
    best = keeper("log_loss:purchase")
    for step, log_loss in enumerate((0.5, 0.25, 0.375), start=1):
        evaluation = {"purchase": numbers(0.5, log_loss)}
        best.add(step, evaluation, best.score(evaluation))
    assert (summary(best)["value"], summary(best)["step"]) == (0.25, 2)
    assert best.scores(3) == {"log_loss:purchase@digest": -0.375}


def test_patience_ends_with_the_evaluation_that_is_one_too_many() -> None:
    best = keeper(patience=2)
    ends = []
    for step, score in enumerate([0.5, 0.4, 0.6, 0.5, 0.6], start=1):
        evaluated(best, score, first_step=step)
        ends.append(best.stops_at(step))
    assert ends == [False, False, False, False, True]
    assert not best.stops_at(6), "only where it was just evaluated"


def test_without_patience_training_never_ends_early() -> None:
    best = evaluated(keeper(), 0.9, *[0.1] * 50)
    assert not any(best.stops_at(step) for step in range(60))


def test_of_equal_scores_the_newest_is_the_best_but_no_improvement() -> None:
    best = evaluated(keeper(patience=2), 0.5, 0.5, 0.5)
    assert (summary(best)["step"], summary(best)["evaluations_since"]) == (3, 2)
    assert best.stops_at(3)


def test_an_evaluation_without_a_score_is_never_best_and_takes_no_patience() -> None:
    best = evaluated(keeper(patience=1), math.nan, 0.5, *[math.nan] * 5)
    found = summary(best)
    assert (found["step"], found["value"], found["evaluations_since"]) == (2, 0.5, 0)
    assert found["evaluations_without_score"] == 6
    assert not best.stops_at(7)
    assert math.isnan(best.scores(7)[MEASURED])
    nothing = summary(evaluated(keeper(), math.nan))
    assert (nothing["step"], nothing["value"], nothing["tasks"]) == (None, None, {})


def test_only_a_checkpoint_of_the_evaluated_step_has_its_score() -> None:
    best = evaluated(keeper(), 0.5, 0.75)
    assert best.scores(2) == {MEASURED: 0.75}
    assert math.isnan(best.scores(3)[MEASURED])
    assert best.has_evaluated(2)
    assert not best.has_evaluated(3)


def test_without_best_by_nothing_is_compared() -> None:
    best = evaluated(keeper(None), 0.5, 0.75)
    assert best.scores(2) == {}
    assert best.summary() is None
    assert not best.has_evaluated(2)


def test_the_same_step_counts_once() -> None:
    best = evaluated(keeper(patience=1), 0.5, 0.4)
    before = best.state_dict()
    evaluated(best, 0.4, first_step=2)
    assert best.state_dict() == before


def test_a_run_that_goes_on_stops_where_an_undisturbed_one_does() -> None:
    scores = [0.3, 0.5, math.nan, 0.4, 0.45]
    undisturbed = evaluated(keeper(patience=2), *scores)
    for place in range(len(scores)):
        first = evaluated(keeper(patience=2), *scores[:place])
        second = keeper(patience=2)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        evaluated(second, *scores[place:], first_step=place + 1)
        assert second.state_dict() == undisturbed.state_dict()
        assert second.stops_at(5)


@pytest.mark.parametrize(
    ("best_by", "digest"), [("auc:cart", "other log"), ("mean_auc", "digest"), (None, "digest")]
)
def test_scores_of_another_measure_or_log_are_forgotten(best_by: str | None, digest: str) -> None:
    earlier = evaluated(keeper(patience=1), 0.9, 0.8).state_dict()
    best = keeper(best_by, digest=digest)
    fresh = best.state_dict()
    best.load_state_dict(earlier)
    assert best.state_dict() == fresh
    best.load_state_dict({})  # as a checkpoint without evaluations has it
    assert best.state_dict() == fresh


def test_patience_that_has_grown_goes_on_and_that_has_shrunk_ends() -> None:
    earlier = evaluated(keeper(patience=2), 0.9, 0.8, 0.7).state_dict()
    for patience, stops in ((1, True), (2, True), (3, False)):
        best = keeper(patience=patience)
        best.load_state_dict(earlier)
        assert best.stops_at(3) is stops


def test_what_a_score_measures_names_the_number_and_the_log() -> None:
    assert scored_by("auc:cart", "0123456789abcdef") == "auc:cart@0123456789ab"
    assert scored_by(None, "0123456789abcdef") is None
