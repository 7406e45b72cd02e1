"""Which arm is the best under conditions: `max wish subject to purchase >= baseline - 0.0005`."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsys_mtl.config import UserError

AVERAGE = "average"
"""The mean of a model's AUC over all tasks."""
_FORM = (
    "write 'max TASK', and where there are conditions 'max TASK subject to TASK >= NUMBER' or "
    "'... >= baseline - NUMBER', several of them joined by 'and'"
)
_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+"
_CONSTRAINT = re.compile(
    rf"(?P<quantity>\w+)\s*>=\s*(?:(?P<number>{_NUMBER})"
    rf"|baseline(?:\s*(?P<sign>[-+])\s*(?P<offset>{_NUMBER}))?)"
)

Scores = Mapping[str, float]
"""Task, or `average`, to AUC."""


@dataclass(frozen=True)
class Constraint:
    """A task's AUC, or the average, must be no lower than a bound."""

    text: str
    """As it was given."""
    quantity: str
    """A task or `average`."""
    number: float
    """The bound, or what is added to the baseline's AUC to have it."""
    of_baseline: bool

    def bound(self, baseline: Scores) -> float:
        """The bound in AUC."""
        return self.number + (baseline[self.quantity] if self.of_baseline else 0.0)

    def shortfall(self, scores: Scores, baseline: Scores) -> float:
        """By how much the scores miss the bound; 0 or less where they hold it."""
        return self.bound(baseline) - scores[self.quantity]


@dataclass(frozen=True)
class Rule:
    """What the chosen arm is to be the best in, and what it must hold."""

    text: str
    target: str
    """A task or `average`."""
    constraints: tuple[Constraint, ...]


def parse_rule(text: str, tasks: Sequence[str]) -> Rule:
    """Read a rule.

    `max average`, `max wish subject to purchase >= baseline - 0.0005 and cart >= 0.75`.

    Args:
        tasks: the sweep's.

    Raises:
        UserError: it is written otherwise, or names no task.
    """
    words = " ".join(text.split())
    found = re.fullmatch(r"max (\w+)(?: subject to (.+))?", words)
    if found is None:
        raise UserError(f"--choose {words!r} cannot be read; {_FORM}")
    constraints = tuple(
        _constraint(part, words) for part in (found[2].split(" and ") if found[2] else ())
    )
    allowed = (*tasks, AVERAGE)
    for quantity in (found[1], *(constraint.quantity for constraint in constraints)):
        if quantity not in allowed:
            raise UserError(
                f"--choose {words!r}: {quantity!r} is no task; allowed: {', '.join(allowed)}"
            )
    return Rule(words, found[1], constraints)


def _constraint(part: str, words: str) -> Constraint:
    found = _CONSTRAINT.fullmatch(part.strip())
    if found is None:
        raise UserError(f"--choose {words!r}: the condition {part!r} cannot be read; {_FORM}")
    of_baseline = found["number"] is None
    if not of_baseline and float(found["number"]) > 1:
        raise UserError(
            f"--choose {words!r}: no AUC holds {part.strip()!r}, as none is above 1; give a bound "
            "from 0 to 1, or one of the baseline"
        )
    number = float(found["offset"] or 0.0) if of_baseline else float(found["number"])
    return Constraint(
        part.strip(), found["quantity"], -number if found["sign"] == "-" else number, of_baseline
    )


def choose(rule: Rule, arms: Mapping[str, Scores], baseline: str) -> str:
    """Return the arm with the highest target among those that hold every constraint.

    Args:
        arms: arm to its mean scores. One with a score that is NaN is never chosen.
        baseline: one of the arms, which may be chosen, too; of equals the first is.

    Raises:
        UserError: no arm holds them; says which is the nearest, and by how much it misses.
    """
    known = {arm: s for arm, s in arms.items() if not any(map(math.isnan, s.values()))}
    theirs = arms[baseline]
    if not known or any(math.isnan(c.bound(theirs)) for c in rule.constraints):
        raise UserError(
            f"--choose {rule.text!r}: an AUC that it compares is not known, as data.eval has "
            "labels of one kind only; give data.eval more rows"
        )
    missed = {
        arm: max((c.shortfall(s, theirs) for c in rule.constraints), default=0.0)
        for arm, s in known.items()
    }
    holding = [arm for arm in known if missed[arm] <= 0.0]
    if not holding:
        nearest = min(missed, key=lambda arm: missed[arm])
        misses = (
            f"{c.text!r} by {c.shortfall(known[nearest], theirs):.2g}"
            for c in rule.constraints
            if c.shortfall(known[nearest], theirs) > 0
        )
        raise UserError(
            f"--choose {rule.text!r}: no arm holds this on data.eval; the nearest is {nearest!r}, "
            f"which misses {' and '.join(misses)}; loosen it, or add arms"
        )
    return max(holding, key=lambda arm: known[arm][rule.target])
