"""sweep.json: what a sweep has come to, and which test logs its choices have seen.

A test log judges one choice, once. What was chosen is written down before the test log is read, and
a later call that would choose otherwise by the same log is refused: whoever has seen the answer
cannot choose by it any more. A log counts as the same where both share a file.

A choice is of models, not of names. So the trainings of the chosen arm and of the baseline are
written down with it, and where one of these runs has been trained anew since, or is not there any
more, the same choice is refused, too: whoever does not like the answer could else train until the
log gives another one. Where no choice is asked for, a log judges a run that was trained anew once
more, as such an answer confirms no choice.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys_mtl.config import UserError
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.driver.events import finite
from recsys_mtl.driver.sweep.answers import training_digest
from recsys_mtl.driver.sweep.arms import Arm
from recsys_mtl.driver.sweep.choice import Rule, choose
from recsys_mtl.driver.sweep.logs import Logs
from recsys_mtl.driver.sweep.outcomes import Outcome, cell_record
from recsys_mtl.driver.sweep.report import in_short
from recsys_mtl.driver.sweep.statistics import BySeed, arm_records, scores_by_seed
from recsys_mtl.metrics.comparison import paired_difference

_IN_WORDS = {
    "rule": "rule",
    "baseline": "baseline",
    "arms": "list of arms",
    "seeds": "list of seeds",
}
"""What a choice depends on, besides scores."""
_DIGITS_OF_FILE = 16
_REMEDY = "give another log by --test, or choose without --test"


@dataclass(frozen=True)
class Request:
    """What was asked of a sweep."""

    run_yaml: str
    arms: Sequence[Arm]
    seeds: Sequence[int]
    overrides: Sequence[str]
    tasks: Sequence[str]
    baseline: str
    test: str | None
    rule: Rule | None

    @property
    def identity(self) -> dict[str, Any]:
        """The parts of `_IN_WORDS`."""
        return {
            "rule": None if self.rule is None else self.rule.text,
            "baseline": self.baseline,
            "arms": [arm.name for arm in self.arms],
            "seeds": list(self.seeds),
        }


def refuse_a_second_choice(
    earlier: Mapping[str, Any], asked: Request, test: Manifest, trainings: Mapping[str, str]
) -> None:
    """Nothing, where this choice by this test log is the first one, or the same again.

    Args:
        earlier: what sweep.json held before this call.
        trainings: the digest of the training of each finished cell, by the cell's name.

    Raises:
        UserError: the log has already been used.
    """
    same = {"test_digest": test.digest, **asked.identity}
    for choice in earlier.get("choices", ()):
        if all(choice[name] == value for name, value in same.items()):
            _refuse_other_trainings(choice, asked, trainings)
            if choice["test"] is not None:
                return
    for log in earlier.get("judged", ()):
        if _share_a_file(log["digest"], log, test):
            raise UserError(
                f"every arm of this sweep has been judged by {_which(log['digest'], asked, test)} "
                f"already, so that it confirms no choice; {_REMEDY}"
            )
    for choice in earlier.get("choices", ()):
        changed = [
            _IN_WORDS[name] for name, value in asked.identity.items() if choice[name] != value
        ]
        if changed and _share_a_file(choice["test_digest"], choice, test):
            raise UserError(
                f"--test {_which(choice['test_digest'], asked, test)} has already judged the "
                f"choice of {choice['arm']!r} by {choice['rule']!r} in this sweep, which had "
                f"another {' and another '.join(changed)}; {_REMEDY}"
            )


def _refuse_other_trainings(
    choice: Mapping[str, Any], asked: Request, trainings: Mapping[str, str]
) -> None:
    runs = choice.get("runs", {})  # of which a choice of an earlier version says nothing
    other = [name for name, digest in runs.items() if trainings.get(name) != digest]
    if other:
        raise UserError(
            f"--test {asked.test} is the judge of the choice of {choice['arm']!r}, and "
            f"{in_short(other)} of it has been trained anew since, or is not there any more, so "
            f"that judging again would be a second look; {_REMEDY}"
        )


def _share_a_file(digest: str | None, earlier: Mapping[str, Any], test: Manifest) -> bool:
    """Whether an earlier test log, by its digest and its files, has rows of this one."""
    return digest == test.digest or not set(earlier.get("files", ())).isdisjoint(_files(test))


def _which(digest: str | None, asked: Request, test: Manifest) -> str:
    return f"{asked.test}" if digest == test.digest else f"a file of {asked.test}"


def _files(test: Manifest) -> list[str]:
    """Its files by their footers, so that they are known under other names, too."""
    return sorted({digest[:_DIGITS_OF_FILE] for digest in test.footer_digests.values()})


def sweep_record(
    asked: Request,
    outcomes: Sequence[Outcome],
    logs: Logs,
    earlier: Mapping[str, Any],
    *,
    url: str,
    log_of: Mapping[str, str],
) -> dict[str, Any]:
    """What sweep.json is to hold, with None for numbers that are not known.

    Args:
        logs: of a cell with all tasks.
        url: the sweep's folder.
        log_of: the cell's name to the file with its output.
    """
    manifests = {"train": logs.train, "eval": logs.eval, "test": logs.test}
    judged = list(earlier.get("judged", ()))
    if logs.test is not None and asked.rule is None:
        judged = [log for log in judged if log["digest"] != logs.test.digest]
        judged.append(_log_record(logs.test) | {"files": _files(logs.test)})
    record = {
        "url": url,
        "run_yaml": asked.run_yaml,
        "overrides": list(asked.overrides),
        "seeds": list(asked.seeds),
        "tasks": list(asked.tasks),
        "baseline": asked.baseline,
        "logs": {name: _log_record(log) for name, log in manifests.items() if log is not None},
        "cells": [cell_record(outcome, log_of[outcome.cell.name]) for outcome in outcomes],
        "arms": arm_records(asked.arms, outcomes, asked.tasks, asked.baseline),
        "choices": list(earlier.get("choices", ())),
        "judged": judged,
    }
    return dict(finite(record))


def _log_record(log: Manifest) -> dict[str, Any]:
    return {"url": log.url, "rows": log.rows, "digest": log.digest}


def with_choice(
    record: Mapping[str, Any],
    asked: Request,
    outcomes: Sequence[Outcome],
    test: Manifest | None,
) -> dict[str, Any]:
    """The record with what the rule chooses, and how that does on the logs, in place of its like.

    Raises:
        UserError: no arm holds the conditions.
    """
    assert asked.rule is not None
    of_eval, of_test = (_scores(asked, outcomes, log) for log in ("eval", "test"))
    means = {arm: _means(by_seed) for arm, by_seed in of_eval.items()}
    chosen = choose(asked.rule, means, asked.baseline)
    # Every seed, or the report would be of fewer runs than the choice.
    has_test = all(set(of_test[arm]) == set(asked.seeds) for arm in (chosen, asked.baseline))
    choice = {
        **asked.identity,
        "arm": chosen,
        "runs": {
            o.cell.name: training_digest(o.result)
            for o in outcomes
            if o.cell.arm in (chosen, asked.baseline) and o.result is not None
        },
        "test_digest": None if test is None else test.digest,
        "test_url": None if test is None else test.url,
        "files": [] if test is None else _files(test),
        "eval": _held(asked, of_eval, chosen),
        "test": _held(asked, of_test, chosen) if has_test else None,
        "test_pending": test is not None and not has_test,
    }
    same = ("rule", "test_digest")
    others = [c for c in record["choices"] if any(c[k] != choice[k] for k in same)]
    return {**record, "choices": [*others, dict(finite(choice))]}


def _scores(asked: Request, outcomes: Sequence[Outcome], log: str) -> dict[str, BySeed]:
    def auc_of(outcome: Outcome) -> Mapping[str, float]:
        return outcome.auc if log == "eval" else outcome.test_auc

    return {
        arm.name: scores_by_seed(
            [o for o in outcomes if o.cell.arm == arm.name], asked.tasks, auc_of
        )
        for arm in asked.arms
    }


def _means(by_seed: BySeed) -> dict[str, float]:
    quantities = next(iter(by_seed.values()))
    return {q: math.fsum(s[q] for s in by_seed.values()) / len(by_seed) for q in quantities}


def _held(asked: Request, scores: Mapping[str, BySeed], chosen: str) -> dict[str, Any]:
    """How the chosen arm does on one log, condition by condition."""
    assert asked.rule is not None
    ours, theirs = scores[chosen], scores[asked.baseline]
    seeds = [seed for seed in ours if seed in theirs]
    conditions = []
    for constraint in asked.rule.constraints:
        bounds = [constraint.bound(theirs[seed]) for seed in seeds]
        aucs = [ours[seed][constraint.quantity] for seed in seeds]
        margin = paired_difference(aucs, bounds)
        conditions.append(
            {
                "text": constraint.text,
                "auc": _means(ours)[constraint.quantity],
                "bound": constraint.bound(_means(theirs)),
                "margin": margin.mean,
                "lower": margin.lower,
                "upper": margin.upper,
                "holds": constraint.shortfall(_means(ours), _means(theirs)) <= 0,
            }
        )
    return {"mean": _means(ours), "baseline": _means(theirs), "conditions": conditions}
