"""Which evaluation of a run was the best, and whether training is to end early.

A checkpoint has a score if it was saved right after an evaluation. Scores are of
`training.best_by` on data.eval, turned so that the larger is the better; with another best_by or
another log they begin anew.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from recsys_mtl.config import Training
from recsys_mtl.config.best import measure

TaskNumbers = Mapping[str, Mapping[str, float]]
"""An evaluation: task to its numbers by name."""


@dataclass(frozen=True)
class BestSoFar:
    """The evaluations of a run until now, as far as later ones are compared with them."""

    scored_by: str | None = None
    """As `scored_by` returns it; None where evaluations are not compared."""
    step: int = 0
    """Of the best evaluation; 0 before the first one with a score."""
    score: float = -math.inf
    """Of the best evaluation, larger being better."""
    evaluation: TaskNumbers = field(default_factory=dict)
    """The best one, task by task."""
    evaluations_since: int = 0
    """Evaluations after the best one that had a score, none better."""
    without_score: int = 0
    """Evaluations that had none."""
    newest_step: int = 0
    """Of the newest evaluation."""
    newest_score: float = math.nan
    """NaN where it had none."""

    def after(self, step: int, evaluation: TaskNumbers, score: float) -> "BestSoFar":
        """What it becomes with the evaluation of `step`.

        A score that is not known is neither better nor worse than another. Of equal scores the
        newest is the best, as its checkpoint is kept, but that is no improvement.
        """
        if self.scored_by is None or step == self.newest_step:  # a restart evaluates a step again
            return self
        known = not math.isnan(score)
        better, equal = score > self.score, score == self.score
        best = (step, score, evaluation)
        if not (better or equal):
            best = (self.step, self.score, self.evaluation)
        return BestSoFar(
            self.scored_by,
            *best,
            evaluations_since=0 if better else self.evaluations_since + known,
            without_score=self.without_score + (not known),
            newest_step=step,
            newest_score=score,
        )


class BestKeeper:
    """Compares the evaluations of one run; every worker holds the same."""

    def __init__(self, training: Training, eval_digest: str) -> None:
        """Begin before the first evaluation.

        Args:
            eval_digest: of the manifest of data.eval.
        """
        self._best_by, self._patience = training.best_by, training.patience_evaluations
        self._best = BestSoFar(scored_by(training.best_by, eval_digest))

    def add(self, step: int, evaluation: TaskNumbers, score: float) -> None:
        """Count the evaluation of `step`; once, however often it is made."""
        self._best = self._best.after(step, evaluation, score)

    def score(self, evaluation: TaskNumbers) -> float:
        """What decides, larger being better; NaN where it is not known, or nothing is compared."""
        return math.nan if self._best_by is None else score_of(self._best_by, evaluation)

    def has_evaluated(self, step: int) -> bool:
        """Whether a checkpoint of `step` would have been evaluated right before, to be compared."""
        return self._best.scored_by is not None and self._best.newest_step == step

    def stops_at(self, step: int) -> bool:
        """Whether `step` was just evaluated, and patience has come to its end there."""
        exhausted = self._patience is not None and self._best.evaluations_since >= self._patience
        return exhausted and self.has_evaluated(step)

    def scores(self, step: int) -> dict[str, float]:
        """For a checkpoint's index: the score of `step`, NaN without one; empty without best_by."""
        if self._best.scored_by is None:
            return {}
        score = self._best.newest_score if self.has_evaluated(step) else math.nan
        return {self._best.scored_by: score}

    def summary(self) -> dict[str, Any] | None:
        """For result.json; None where evaluations are not compared."""
        best = self._best
        if self._best_by is None:
            return None
        sign = -1.0 if measure(self._best_by).quantity == "log_loss" else 1.0
        return {
            "by": self._best_by,
            "value": sign * best.score if best.step else None,
            "step": best.step or None,
            "evaluations_since": best.evaluations_since,
            "evaluations_without_score": best.without_score,
            "scored_by": best.scored_by,
            "tasks": best.evaluation,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds, in plain numbers."""
        return asdict(self._best)

    def load_state_dict(self, numbers: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, unless its evaluations were measured otherwise."""
        if numbers and numbers["scored_by"] == self._best.scored_by:
            self._best = BestSoFar(**numbers)


def scored_by(best_by: str | None, eval_digest: str) -> str | None:
    """What a score measures, and of which log; None without best_by. Only equals compare."""
    return None if best_by is None else f"{best_by}@{eval_digest[:12]}"


def score_of(best_by: str, evaluation: TaskNumbers) -> float:
    """A score, larger being better; NaN where a task that counts has no such number.

    Labels of one kind alone have no AUC. An evaluation leaves out predictions that are not finite:
    with any of them, its numbers are of other rows than those of the others.
    """
    quantity, task = measure(best_by)
    tasks = list(evaluation) if task is None else [task]
    if any(evaluation[task]["not_finite"] for task in tasks):
        return math.nan
    mean = math.fsum(evaluation[task][quantity] for task in tasks) / len(tasks)
    return -mean if quantity == "log_loss" else mean
