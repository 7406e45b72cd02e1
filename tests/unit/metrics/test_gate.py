"""The gate's verdicts, and how often its intervals hold the truth."""

import secrets

import numpy as np
import pytest

from pipelines.experiments.gate_coverage import WORLDS, World, draw_log, gate_of, one_user_per_row
from recsys_mtl.config import UserError
from recsys_mtl.metrics.bootstrap import drop_sums
from recsys_mtl.metrics.gate import Gate, judge
from recsys_mtl.metrics.scored_rows import ScoredBlock
from tests.unit.metrics.two_models import draw_two_models, drop_by_scikit_learn


@pytest.fixture
def rng() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


@pytest.fixture
def same_rng() -> np.random.Generator:
    """For verdicts that one log in 20 lacks by design: always the same draws."""
    return np.random.default_rng(3)


def two_tasks(one: ScoredBlock, two: ScoredBlock) -> ScoredBlock:
    return one._replace(
        **{
            name: np.concatenate((getattr(one, name), getattr(two, name)), axis=-1)
            for name in ("logits", "labels", "weights")
        }
    )


def with_new(log: ScoredBlock, logits: np.ndarray) -> ScoredBlock:
    """The log with the other model's logits as they are, and the new model's replaced."""
    both = np.stack((logits, log.logits[:, 1]), axis=1)
    return log._replace(logits=both.astype(np.float32))


@pytest.mark.parametrize("num_groups", [1, 40, 1_000])
def test_the_same_scores_pass_on_any_rows(rng: np.random.Generator, num_groups: int) -> None:
    log = draw_two_models(rng, num_groups)
    result = gate_of(with_new(log, log.logits[:, 1]))
    assert (result.verdict, result.exit_status) == ("passes", 0)
    assert result.tasks["task"].drop == result.tasks["task"].upper == 0.0


def test_an_equal_model_passes_given_rows(rng: np.random.Generator) -> None:
    # The half-width is about 0.003, so that a fresh draw does not come near the limit.
    result = gate_of(draw_two_models(rng, 20_000), limit=0.02)
    assert (result.verdict, result.exit_status) == ("passes", 0)
    assert result.rows_needed is None


def test_a_model_of_flipped_labels_is_worse(rng: np.random.Generator) -> None:
    log = draw_two_models(rng, 300)
    result = gate_of(with_new(log, -log.logits[:, 1]))
    assert (result.verdict, result.exit_status) == ("worse", 3)
    drop = result.tasks["task"]
    assert drop.drop == pytest.approx(
        drop_by_scikit_learn(with_new(log, -log.logits[:, 1])), abs=5e-5
    )
    assert drop.lower > 0.001
    assert "worse on" in result.summary
    assert "task: drop in AUC" in result.summary


def test_200_rows_cannot_tell_and_it_says_how_many_would(same_rng: np.random.Generator) -> None:
    log = draw_two_models(same_rng, 100)
    log = ScoredBlock(*(column[:200] for column in log))
    result = gate_of(log)
    assert (result.verdict, result.exit_status) == ("unknown", 4)
    assert result.rows == 200
    assert result.rows_needed is not None
    assert 100_000 < result.rows_needed < 1e9
    assert f"about {result.rows_needed:,} such rows would do" in result.summary


def gate_of_two(one: ScoredBlock, two: ScoredBlock) -> Gate:
    both = two_tasks(one, two)
    return judge(*drop_sums(lambda: [both], 2, seed=0), ["buy", "wish"], 0.001)


def test_every_task_must_pass_and_one_that_is_worse_decides(same_rng: np.random.Generator) -> None:
    log = draw_two_models(same_rng, 300)
    same, flipped = (with_new(log, sign * log.logits[:, 1]) for sign in (1, -1))
    assert gate_of_two(same, same).verdict == "passes"
    assert gate_of_two(same, log).verdict == "unknown"
    worse = gate_of_two(log, flipped)
    assert worse.verdict == "worse"
    assert f"wish: {worse.tasks['wish'].reason}" in worse.summary
    assert "buy" not in worse.summary


def test_it_needs_as_many_rows_as_its_slowest_task(same_rng: np.random.Generator) -> None:
    few, many = (draw_two_models(same_rng, 300, error=e, error_of_new=e) for e in (0.1, 0.5))
    rows = min(len(few.keys), len(many.keys))
    few, many = (ScoredBlock(*(column[:rows] for column in log)) for log in (few, many))
    result = gate_of_two(few._replace(keys=many.keys), many)
    buy, wish = (drop.rows_needed for drop in result.tasks.values())
    assert buy is not None
    assert wish is not None
    assert result.rows_needed == wish > buy


def reasons(result: Gate) -> tuple[str, int | None, str]:
    return result.verdict, result.rows_needed, result.tasks["task"].reason


def test_what_no_number_of_such_rows_could_tell(rng: np.random.Generator) -> None:
    log = draw_two_models(rng, 50)
    one_group = log._replace(keys=np.full_like(log.keys, 5))
    no_positive = log._replace(labels=np.zeros_like(log.labels))
    no_label = no_positive._replace(weights=np.zeros_like(log.weights))
    assert reasons(gate_of(one_group)) == ("unknown", None, "all positives are in one group")
    assert reasons(gate_of(no_positive)) == ("unknown", None, "no row is positive")
    assert reasons(gate_of(log._replace(labels=~no_positive.labels)))[2] == "no row is negative"
    assert reasons(gate_of(no_label)) == ("unknown", None, "no row is labelled")
    assert "no number of such rows would do" in gate_of(no_label).summary


def test_positives_in_two_groups_give_no_interval_but_the_rows_that_would(
    same_rng: np.random.Generator,
) -> None:
    log = draw_two_models(same_rng, 60)
    bought = np.isin(log.keys, log.keys[[0, -1]])[:, None]
    drop = gate_of(log._replace(labels=bought)).tasks["task"]
    assert (drop.verdict, np.isnan(drop.lower), np.isnan(drop.upper)) == ("unknown", True, True)
    assert drop.reason.endswith("in too few groups for an interval")
    assert drop.rows_needed is not None


def test_a_new_model_with_a_logit_that_is_not_finite_is_worse(rng: np.random.Generator) -> None:
    log = draw_two_models(rng, 50)
    broken = log.logits[:, 1].copy()
    broken[3] = np.nan
    result = gate_of(with_new(log, broken))
    assert reasons(result) == ("worse", None, "the new model's logit is not finite on 1 rows")


def test_rows_that_the_other_model_cannot_score_are_left_out_and_said(
    rng: np.random.Generator,
) -> None:
    log = draw_two_models(rng, 50)
    broken = log.logits.copy()
    broken[:2, 1] = np.inf
    drop = gate_of(log._replace(logits=broken)).tasks["task"]
    rest = ScoredBlock(*(column[2:] for column in log))
    # Each AUC counts pairs in one bin as half a pair: 1e-4 with so few rows.
    assert drop.drop == pytest.approx(drop_by_scikit_learn(rest), abs=2e-4)
    assert "without 2 rows that the other model cannot score" in drop.reason


def test_models_that_never_differ_in_few_groups_are_not_taken_for_equal(
    rng: np.random.Generator,
) -> None:
    """Both rank every positive first: with 100 groups, up to 3 in 100 others could speak."""
    log = draw_two_models(rng, 100)
    perfect = log._replace(logits=log.logits + 1_000 * log.labels[:, :, None].astype(np.float32))
    drop = gate_of(perfect).tasks["task"]
    assert (drop.drop, drop.verdict) == (0.0, "unknown")
    assert 0.03 <= drop.upper <= 0.2
    assert gate_of(perfect, limit=0.3).verdict == "passes"


@pytest.mark.parametrize("limit", [float("nan"), 2.0])
def test_a_limit_that_is_none_is_refused(rng: np.random.Generator, limit: float) -> None:
    with pytest.raises(UserError, match="give a number from -1 to 1"):
        gate_of(draw_two_models(rng, 10), limit=limit)


@pytest.mark.parametrize("world", WORLDS[2:4])
def test_intervals_hold_the_truth_in_19_of_20_logs_and_need_the_groups(world: World) -> None:
    """120 logs of 30 users with 20 rows; the draws are always the same."""
    rng = np.random.default_rng(11)
    truth = drop_by_scikit_learn(draw_log(rng, world._replace(users=20_000)))
    by_user, by_row = [], []
    for seed in range(120):
        log = draw_log(rng, world)
        for held, drawn in ((by_user, log), (by_row, one_user_per_row(rng, log))):
            drop = gate_of(drawn, seed=seed, replicates=128).tasks["task"]
            held.append(drop.lower <= truth <= drop.upper)
    print(f"{np.mean(by_user):.3f} by user, {np.mean(by_row):.3f} by row")
    assert np.mean(by_user) >= 0.92
    assert np.mean(by_row) < 0.85


def test_the_rows_asked_for_let_an_equal_model_pass() -> None:
    """The limit is 0.03, the first logs have 300 rows; always the same draws."""
    rng = np.random.default_rng(5)
    needed = [gate_of(draw_two_models(rng, 60), 0.03).rows_needed for _ in range(10)]
    rows = float(np.median([rows for rows in needed if rows is not None]))
    verdicts = [gate_of(draw_two_models(rng, round(rows / 5)), 0.03).verdict for _ in range(40)]
    print(needed, verdicts.count("passes"))
    assert verdicts.count("passes") >= 32
    assert verdicts.count("worse") == 0
