"""Whether a model may take another's place: is its AUC lower by more than a limit, on one log?

The answer is "passes" or "worse" only where the log's rows are enough to say so. Else it is
"unknown", with the number of rows that would be enough.
"""

# T tasks, R replicates

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys_mtl.config import UserError

Verdict = Literal["passes", "worse", "unknown"]
EXIT_STATUS: dict[Verdict, int] = {"passes": 0, "worse": 3, "unknown": 4}

_TWO_SIDED_95 = NormalDist().inv_cdf(0.975)
_NINE_IN_TEN = NormalDist().inv_cdf(0.9)
_MOST_ROWS = 1e10
_FEWEST_DEGREES = 2.0
# Placements are ratios of sums, which weights that are no integers round by about this much.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class TaskDrop:
    """How much lower one task's AUC is."""

    drop: float
    """AUC of the other model less that of the new one; NaN where the rows have no AUC."""
    lower: float
    """Lower end of the 95 % interval of the drop; NaN, as the upper one, where rows give none."""
    upper: float
    verdict: Verdict
    reason: str
    """A part of a sentence that says why."""
    rows_needed: int | None
    """Rows of such a log that would tell in 9 of 10 cases, where `verdict` is "unknown". If the
    drop may be 0, that is for a model that is equal, and else for a drop as large as the measured
    one. None where no practical number would."""


@dataclass(frozen=True)
class Gate:
    """The verdict over all tasks."""

    verdict: Verdict
    """"worse" if a task is, "passes" if all do."""
    rows: int
    rows_needed: int | None
    """See `TaskDrop.rows_needed`; for the task that needs the most rows, or where a task seems to
    be worse, for the one that needs the fewest to be sure of it."""
    tasks: dict[str, TaskDrop]
    summary: str
    """One sentence."""

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS[self.verdict]


class Counts(NamedTuple):
    """What `drop_sums` counts of a task, besides its sums."""

    rows: float
    """Rows of the log, labelled or not."""
    differing: float
    """Labelled rows to which the two models give different logits."""
    not_finite_new: float
    """Labelled rows left out, since the new model's logit is NaN or infinite."""
    not_finite_other: float
    positive_groups: float
    """Groups with a positive row."""
    positive_squares: float
    """The sum over groups of the square of their positives' weight."""
    negative_groups: float
    negative_squares: float


def judge(sums: Tensor, counts: Tensor, tasks: Sequence[str], max_auc_drop: float) -> Gate:
    """Turns the sums of `drop_sums`, of all workers, into a verdict.

    A task passes if the upper end of the 95 % interval of its drop is below the limit, and is worse
    if the lower end is above it, or if the new model has logits that are not finite.

    Args:
        sums: [R + 1, T, 4]
        counts: [T, 8]
        tasks: the T names.
        max_auc_drop: the limit.

    Raises:
        UserError: the limit is no number from -1 to 1.
    """
    if not -1 <= max_auc_drop <= 1:
        raise UserError(f"--max-auc-drop {max_auc_drop}: give a number from -1 to 1, such as 0.001")
    drops = {
        task: _judge_task(sums[:, place].numpy(), Counts(*counts[place].tolist()), max_auc_drop)
        for place, task in enumerate(tasks)
    }
    verdicts = [drop.verdict for drop in drops.values()]
    verdict: Verdict = "passes" if all(v == "passes" for v in verdicts) else "unknown"
    if "worse" in verdicts:
        verdict = "worse"
    rows = int(counts[0, 0])
    rows_needed = (
        _rows_for_all(list(drops.values()), max_auc_drop) if verdict == "unknown" else None
    )
    return Gate(verdict, rows, rows_needed, drops, _summary(verdict, rows, rows_needed, drops))


def _judge_task(sums: NDArray[np.float64], counts: Counts, limit: float) -> TaskDrop:
    """One task's verdict, from its sums [R + 1, 4]."""
    _, positives, _, negatives = sums[0]
    nan = math.nan
    if counts.not_finite_new:
        reason = f"the new model's logit is not finite on {counts.not_finite_new:,.0f} rows"
        return TaskDrop(nan, nan, nan, "worse", reason, None)
    if not counts.differing and positives + negatives > 0:
        return TaskDrop(0.0, 0.0, 0.0, _verdict(0.0, 0.0, limit), "all logits are equal", None)
    if positives == 0 or negatives == 0:
        missing = "labelled" if positives == negatives else "negative" if positives else "positive"
        return TaskDrop(nan, nan, nan, "unknown", f"no row is {missing}", None)
    drop, half_width, error = _interval(sums, counts)
    lower, upper = drop - half_width, drop + half_width
    verdict = _verdict(lower, upper, limit)
    needed = None
    if verdict == "unknown" and _fewest_groups(counts) > 1:
        # A model that is equal needs this many; if 0 is out of the question, one as it was seen.
        distance = abs(limit - (drop if lower > 0 or limit <= 0 else 0.0))
        needed = _rows_needed(counts, error, distance)
    return TaskDrop(drop, lower, upper, verdict, _reason(drop, half_width, counts), needed)


def _reason(drop: float, half_width: float, counts: Counts) -> str:
    if counts.positive_groups < 2 or counts.negative_groups < 2:
        reason = (
            f"all {'positives' if counts.positive_groups < 2 else 'negatives'} are in one group"
        )
    elif math.isnan(half_width):
        reason = f"drop in AUC {drop:.5f}, in too few groups for an interval"
    else:
        ends = f"{drop - half_width:.5f} to {drop + half_width:.5f}"
        reason = f"drop in AUC {drop:.5f}, 95 % interval {ends}"
    if counts.not_finite_other:
        reason += f", without {counts.not_finite_other:,.0f} rows that the other model cannot score"
    return reason


def _verdict(lower: float, upper: float, limit: float) -> Verdict:
    return "passes" if upper < limit else "worse" if lower > limit else "unknown"


def _interval(sums: NDArray[np.float64], counts: Counts) -> tuple[float, float, float]:
    """The drop, the half-width of its 95 % interval (NaN: there is none), its standard error.

    The error's degrees of freedom are Welch's (1947): each class tells as much of its part as it
    has groups, less one; where groups differ in size, there are in effect fewer.
    """
    with np.errstate(invalid="ignore"):  # a replicate may draw no positive
        by_class = sums[:, 0::2] / sums[:, 1::2]
    replicates = by_class[1:][np.isfinite(by_class[1:]).all(axis=1)]
    drop = float(by_class[0, 0])
    squares = np.array([counts.positive_squares, counts.negative_squares])
    degrees_by_class = sums[0, 1::2] ** 2 / squares - 1
    if len(replicates) < 2 or degrees_by_class.min() <= 0:
        return drop, math.nan, math.nan
    error = math.sqrt(replicates.sum(axis=1).var(ddof=1))
    variances = np.maximum(replicates.var(axis=0, ddof=1), _ROUNDING**2)
    degrees = float(variances.sum() ** 2 / (variances**2 / degrees_by_class).sum())
    if degrees < _FEWEST_DEGREES:
        return drop, math.nan, error
    if error < _ROUNDING:
        return drop, _bound_of_silence(counts), error
    return drop, _student_95(degrees) * error, error


def _bound_of_silence(counts: Counts) -> float:
    """The largest drop that groups may hide of which none speaks for either model.

    With 95 % confidence fewer than 3 in G of all groups do (Hanley and Lippman-Hand, "If nothing
    goes wrong, is everything all right?", 1983).
    """
    return min(1.0, 3 / _fewest_groups(counts))


def _fewest_groups(counts: Counts) -> float:
    return min(counts.positive_groups, counts.negative_groups)


def _student_95(degrees: float) -> float:
    """The two-sided 95 % point of Student's t, to 3 % from 2 degrees of freedom on.

    Source: Abramowitz and Stegun 1964, 26.7.5.
    """
    z = _TWO_SIDED_95
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )


def _rows_needed(counts: Counts, error: float, distance: float) -> int | None:
    """Rows with which an interval in 9 of 10 cases ends before `distance`, in two digits.

    The error shrinks with the root of the rows, and the bound of silent groups with the rows. Twice
    the rows are asked for at least, since this log's could not tell.
    """
    if distance == 0 or math.isnan(error):
        return None
    if error < _ROUNDING:
        times = _bound_of_silence(counts) / distance
    else:
        times = ((_TWO_SIDED_95 + _NINE_IN_TEN) * error / distance) ** 2
    needed = counts.rows * max(times, 2.0)
    if needed > _MOST_ROWS:
        return None
    digit = 10 ** max(0, math.floor(math.log10(needed)) - 1)
    return int(math.ceil(needed / digit) * digit)


def _rows_for_all(drops: Sequence[TaskDrop], limit: float) -> int | None:
    """The rows that would decide the verdict over all tasks."""
    unknown = [drop for drop in drops if drop.verdict == "unknown"]
    worse = [drop.rows_needed for drop in unknown if drop.lower > 0 and drop.drop > limit]
    known = [rows for rows in worse if rows is not None]
    if known:
        return min(known)
    needed = [drop.rows_needed for drop in unknown]
    return None if None in needed else max(rows for rows in needed if rows is not None)


def _summary(
    gate_verdict: Verdict, rows: int, needed: int | None, drops: dict[str, TaskDrop]
) -> str:
    """The verdict in one sentence, with the tasks that it is due to."""
    due = "; ".join(
        f"{task}: {drop.reason}" for task, drop in drops.items() if drop.verdict == gate_verdict
    )
    match gate_verdict:
        case "passes":
            return f"passes on {rows:,} rows ({due})"
        case "worse":
            return f"worse on {rows:,} rows ({due})"
        case "unknown":
            more = (
                f"about {needed:,} such rows would do"
                if needed
                else "no number of such rows would do"
            )
            return f"these {rows:,} rows cannot tell ({due}); {more}"
