"""sweep.json: what was chosen, and that a test log confirms one choice."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recsys_mtl.config import UserError
from recsys_mtl.driver.sweep.folder import SweepFolder
from recsys_mtl.driver.sweep.outcomes import Failure, Outcome
from recsys_mtl.driver.sweep.record import Request, refuse_a_second_choice, with_choice
from tests.unit.driver.sweep.sweeps import (
    ALPHA,
    UNIFORM,
    cells_of,
    log,
    outcomes_of,
    record_of,
    request,
)

ARMS = [UNIFORM, ALPHA]
RULE = "max cart subject to purchase >= baseline - 0.02"
AUCS = {
    ("uniform", 1): (0.80, 0.70),
    ("uniform", 2): (0.82, 0.70),
    ("alpha=-1", 1): (0.79, 0.75),
    ("alpha=-1", 2): (0.81, 0.75),
}
ON_TEST = {
    ("uniform", 1): (0.80, 0.70),
    ("uniform", 2): (0.80, 0.70),
    ("alpha=-1", 1): (0.76, 0.74),
    ("alpha=-1", 2): (0.78, 0.76),
}


def test_a_record_holds_cells_with_their_numbers_arms_logs_and_what_was_asked(
    tmp_path: Path,
) -> None:
    first, *others = outcomes_of(cells_of(tmp_path, ARMS, (1, 2)), AUCS)
    failed = Outcome(first.cell, None, 0, None, Failure(-9, "killed by SIGKILL"))
    record = record_of(request(ARMS, (1, 2)), [failed, *others])
    json.dumps(record, allow_nan=False)
    assert (record["baseline"], record["seeds"], record["tasks"]) == (
        "uniform", [1, 2], ["purchase", "cart"],
    )  # fmt: skip
    assert record["logs"]["eval"] == {"url": "logs/eval", "rows": 60, "digest": "digest-of-eval"}
    assert [arm["name"] for arm in record["arms"]] == ["uniform", "alpha=-1"]
    assert record["arms"][1]["overrides"] == ["method.alpha=-1"]
    killed, finished = record["cells"][:2]
    assert (killed["status"], killed["exit_status"], killed["last_line"]) == (
        "failed", -9, "killed by SIGKILL",
    )  # fmt: skip
    assert (finished["status"], finished["auc"]) == ("finished", {"purchase": 0.79, "cart": 0.75})
    assert (finished["rows"], finished["seconds"], finished["core_hours"]) == (1000, 10, 20 / 3600)
    assert (finished["conflicting_steps"], finished["compared_steps"]) == (7, 20)
    assert finished["mean_weights"] == {"purchase": 1.0, "cart": 1.0}


def all_outcomes(
    tmp_path: Path, test: dict[tuple[str, int], tuple[float, float]] | None = None
) -> list[Outcome]:
    return outcomes_of(cells_of(tmp_path, ARMS, (1, 2)), AUCS, test)


def chosen(
    tmp_path: Path, asked: Request, test: dict[tuple[str, int], tuple[float, float]] | None
) -> dict[str, Any]:
    """The record after a choice, which the test log has judged already or is still to judge."""
    outcomes = all_outcomes(tmp_path, test)
    judged = None if asked.test is None else log(asked.test)
    return with_choice(record_of(asked, outcomes, test=judged), asked, outcomes, judged)


def test_a_choice_is_written_down_before_the_test_log_is_read(tmp_path: Path) -> None:
    record = chosen(tmp_path, request(ARMS, (1, 2), RULE, "later"), None)
    (choice,) = record["choices"]
    assert (choice["arm"], choice["test_pending"], choice["test"]) == ("alpha=-1", True, None)
    assert choice["test_digest"] == "digest-of-later"
    (condition,) = choice["eval"]["conditions"]
    assert condition["bound"] == pytest.approx(0.79)
    assert condition["auc"] == pytest.approx(0.80)
    assert condition["margin"] == pytest.approx(0.01)
    assert condition["holds"] is True


def test_a_choice_waits_until_the_test_log_has_judged_every_seed(tmp_path: Path) -> None:
    asked = request(ARMS, (1, 2), RULE, "later")
    half = {key: aucs for key, aucs in ON_TEST.items() if key != ("alpha=-1", 2)}
    (choice,) = chosen(tmp_path, asked, half)["choices"]
    assert (choice["arm"], choice["test_pending"], choice["test"]) == ("alpha=-1", True, None)


def test_a_choice_that_does_not_hold_on_the_test_log_says_so(tmp_path: Path) -> None:
    asked = request(ARMS, (1, 2), RULE, "later")
    before = chosen(tmp_path, asked, None)
    outcomes = all_outcomes(tmp_path, ON_TEST)
    record = record_of(asked, outcomes, test=log("later"), earlier=before)
    (choice,) = with_choice(record, asked, outcomes, log("later"))["choices"]
    assert choice["test_pending"] is False
    (condition,) = choice["test"]["conditions"]
    assert condition["holds"] is False
    assert condition["margin"] == pytest.approx(-0.01)  # of -0.02 and 0
    assert condition["lower"] < condition["margin"] < condition["upper"]


def test_the_same_choice_is_repeated_and_another_one_by_the_same_test_log_is_refused(
    tmp_path: Path,
) -> None:
    asked = request(ARMS, (1, 2), RULE, "later")
    record = chosen(tmp_path, asked, ON_TEST)
    runs = record["choices"][0]["runs"]
    assert list(runs) == [outcome.cell.name for outcome in all_outcomes(tmp_path)]
    refuse_a_second_choice(record, asked, log("later"), runs)
    refuse_a_second_choice(record, request(ARMS, (1, 2), "max cart", "other"), log("other"), {})
    for other, changed in (
        (request(ARMS, (1, 2), "max cart", "later"), "another rule"),
        (
            request([UNIFORM], (1, 2, 3), RULE, "later"),
            "another list of arms and another list of seeds",
        ),
    ):
        with pytest.raises(UserError) as refused:
            refuse_a_second_choice(record, other, log("later"), runs)
        said = f"has already judged the choice of 'alpha=-1' by {RULE!r} in this sweep, which had"
        assert f"{said} {changed}; give another log by --test" in str(refused.value)


def test_a_log_that_has_judged_every_arm_confirms_no_choice(tmp_path: Path) -> None:
    outcomes = all_outcomes(tmp_path, ON_TEST)
    record = record_of(request(ARMS, (1, 2), test="later"), outcomes, test=log("later"))
    again = record_of(request(ARMS, (1, 2)), outcomes, earlier=record)
    with pytest.raises(UserError, match=r"has been judged by later already, so that it confirms"):
        refuse_a_second_choice(again, request(ARMS, (1, 2), RULE, "later"), log("later"), {})


def test_a_choice_that_a_log_has_confirmed_stays_so_when_it_then_judges_every_arm(
    tmp_path: Path,
) -> None:
    asked = request(ARMS, (1, 2), RULE, "later")
    before = chosen(tmp_path, asked, ON_TEST)
    outcomes = all_outcomes(tmp_path, ON_TEST)
    everyone = request(ARMS, (1, 2), test="later")
    record = record_of(everyone, outcomes, test=log("later"), earlier=before)
    refuse_a_second_choice(record, asked, log("later"), record["choices"][0]["runs"])
    with pytest.raises(UserError, match="so that it confirms no choice"):
        refuse_a_second_choice(record, request(ARMS, (1, 2), "max cart", "later"), log("later"), {})


@pytest.mark.parametrize("test", [ON_TEST, None], ids=["judged", "to be judged"])
def test_a_choice_is_of_its_trainings_and_no_other_ones_are_judged_in_their_place(
    tmp_path: Path, test: dict[tuple[str, int], tuple[float, float]] | None
) -> None:
    asked = request(ARMS, (1, 2), RULE, "later")
    record = chosen(tmp_path, asked, test)
    runs = record["choices"][0]["runs"]
    refuse_a_second_choice(record, asked, log("later"), runs)
    for name in ("uniform-seed2", "alpha_-1-seed1"):
        for now in (runs | {name: "of another training"}, {n: runs[n] for n in runs if n != name}):
            with pytest.raises(UserError) as refused:
                refuse_a_second_choice(record, asked, log("later"), now)
            assert (
                f"--test later is the judge of the choice of 'alpha=-1', and {name} of it has been "
                "trained anew since, or is not there any more, so that judging again would be a "
                "second look; give another log by --test"
            ) in str(refused.value)


def test_a_log_that_shares_a_file_with_one_that_has_judged_is_no_other_log(tmp_path: Path) -> None:
    day, both, other = (
        replace(log(name), footer_digests={file: f"{file:a<20}" for file in files})
        for name, files in (("day", ["3"]), ("both", ["3", "4"]), ("other", ["4"]))
    )
    outcomes = all_outcomes(tmp_path, ON_TEST)
    by_day = request(ARMS, (1, 2), RULE, "day")
    record = with_choice(record_of(by_day, outcomes, test=day), by_day, outcomes, day)
    everyone = record_of(request(ARMS, (1, 2), test="day"), outcomes, test=day)
    wish = request(ARMS, (1, 2), "max cart", "both")
    refuse_a_second_choice(record, wish, other, {})
    refuse_a_second_choice(everyone, wish, other, {})
    with pytest.raises(UserError, match="--test a file of both has already judged the choice of"):
        refuse_a_second_choice(record, wish, both, {})
    with pytest.raises(UserError, match="has been judged by a file of both already, so that it"):
        refuse_a_second_choice(everyone, wish, both, {})


def test_the_folder_must_be_of_this_machine_and_its_record_sound(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--out s3://bucket/sweep is no folder of this machine"):
        SweepFolder("s3://bucket/sweep")
    assert SweepFolder(str(tmp_path)).read_record() == {}
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(UserError, match=r"sweep\.json is damaged; restore it"):
        SweepFolder(str(tmp_path)).read_record()
