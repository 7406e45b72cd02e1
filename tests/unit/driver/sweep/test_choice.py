"""Rules that choose an arm."""

import math

import pytest

from recsys_mtl.config import UserError
from recsys_mtl.driver.sweep.choice import choose, parse_rule

TASKS = ("purchase", "wish")
ARMS = {
    "uniform": {"purchase": 0.80, "wish": 0.70, "average": 0.75},
    "alpha=-1": {"purchase": 0.7996, "wish": 0.72, "average": 0.7598},
    "alpha=-3": {"purchase": 0.78, "wish": 0.75, "average": 0.765},
    "alpha=1": {"purchase": 0.81, "wish": 0.69, "average": 0.75},
}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("max wish subject to purchase >= baseline - 0.0005", "alpha=-1"),
        ("max  wish subject to purchase>=baseline-3e-2", "alpha=-3"),
        ("max wish", "alpha=-3"),
        ("max average", "alpha=-3"),
        ("max wish subject to purchase >= baseline", "uniform"),
        ("max wish subject to purchase >= baseline + .005", "alpha=1"),
        ("max average subject to purchase >= 0.79 and wish >= baseline", "alpha=-1"),
        ("max purchase subject to average >= 0.76", "alpha=-3"),
    ],
)
def test_the_arm_with_the_highest_target_that_holds_all_conditions(text: str, chosen: str) -> None:
    assert choose(parse_rule(text, TASKS), ARMS, "uniform") == chosen


def test_a_bound_of_the_baseline_is_its_auc_of_the_same_task() -> None:
    (constraint,) = parse_rule("max wish subject to purchase >= baseline - 0.01", TASKS).constraints
    assert constraint.bound(ARMS["uniform"]) == pytest.approx(0.79)
    assert constraint.shortfall(ARMS["alpha=-3"], ARMS["uniform"]) == pytest.approx(0.01)
    assert constraint.shortfall(ARMS["alpha=1"], ARMS["uniform"]) < 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max wihs", "'wihs' is no task; allowed: purchase, wish, average"),
        ("max wish subject to cart >= 0.5", "'cart' is no task; allowed: purchase, wish"),
        ("min wish", "cannot be read; write 'max TASK'"),
        ("wish", "cannot be read; write 'max TASK'"),
        ("", "cannot be read; write 'max TASK'"),
        ("max wish, subject to purchase >= 0", "cannot be read"),
        ("max wish subject to purchase >= 1.1", "no AUC holds 'purchase >= 1.1', as none is"),
        ("max wish subject to purchase > 0.7", "the condition 'purchase > 0.7' cannot be read"),
        ("max wish subject to purchase >= -0.1", "the condition 'purchase >= -0.1' cannot"),
        ("max wish subject to purchase >= 0.7 and", "cannot be read"),
        ("max wish subject to purchase >= 0.7 or wish >= 1", "cannot be read"),
        ("max wish subject to purchase >= baseline - 0.0005 foo", "cannot be read"),
        ("max wish subject to 0.7 <= purchase", "the condition '0.7 <= purchase' cannot be read"),
    ],
)
def test_a_rule_that_is_written_otherwise_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_rule(text, TASKS)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_where_no_arm_holds_the_conditions_the_nearest_and_its_misses_are_named() -> None:
    rule = parse_rule("max wish subject to purchase >= 0.82 and wish >= 0.695", TASKS)
    with pytest.raises(UserError) as refused:
        choose(rule, ARMS, "uniform")
    assert (
        "no arm holds this on data.eval; the nearest is 'alpha=1', which misses 'purchase >= 0.82' "
        "by 0.01 and 'wish >= 0.695' by 0.005; loosen it, or add arms"
    ) in str(refused.value)


def test_an_arm_whose_auc_is_not_known_is_never_chosen() -> None:
    unknown = {"wish": math.nan, "purchase": 0.9, "average": math.nan}
    assert (
        choose(parse_rule("max purchase", TASKS), ARMS | {"new": unknown}, "uniform") == "alpha=1"
    )
    with pytest.raises(UserError, match="labels of one kind only"):
        choose(parse_rule("max wish subject to wish >= baseline", TASKS), {"a": unknown}, "a")
