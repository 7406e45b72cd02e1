"""What a person reads of a sweep."""

from pathlib import Path
from typing import Any

import pytest

from recsys_mtl.driver.sweep.arms import Arm
from recsys_mtl.driver.sweep.outcomes import Failure, Outcome
from recsys_mtl.driver.sweep.record import with_choice
from recsys_mtl.driver.sweep.report import (
    choice_sentences,
    failure_sentences,
    markdown,
    notes,
    terminal_tables,
)
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
AUCS = {
    ("uniform", 1): (0.80, 0.70),
    ("uniform", 2): (0.82, 0.70),
    ("alpha=-1", 1): (0.78, 0.7501),
    ("alpha=-1", 2): (0.81, 0.7502),
}


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    outcomes = outcomes_of(cells_of(tmp_path, ARMS, (1, 2)), AUCS)
    return record_of(request(ARMS, (1, 2)), outcomes)


def test_the_page_has_a_line_per_arm_and_its_difference_to_the_baseline(
    record: dict[str, Any],
) -> None:
    lines = markdown(record).splitlines()
    assert lines[0] == "# Sweep of run.yaml"
    assert "4 of 4 runs are finished, of 2 arms with the seed(s) 1, 2." in lines[2]
    (uniform,) = (line for line in lines if line.startswith("| uniform"))
    assert uniform.split(" | ")[1:] == [
        "2", "0.8100 ± 0.0141", "0.7000 ± 0.0000", "0.7550 ± 0.0071", "+0.00", "1.50", "*",
        "10.0", "180,000 |",
    ]  # fmt: skip
    scores, difference = (line for line in lines if line.startswith("| alpha=-1"))
    assert "0.7501 ± 0.0001" in scores
    # -0.02 and -0.01 scatter, 0.0501 and 0.0502 hardly do.
    assert difference.split(" | ")[1:3] == ["2", "-0.0150 (-0.0785 to +0.0485)"]
    assert difference.split(" | ")[3] == "**+0.0502 (+0.0495 to +0.0508)**"


def test_with_one_seed_there_are_no_intervals_and_it_is_said(tmp_path: Path) -> None:
    outcomes = outcomes_of(cells_of(tmp_path, ARMS, (1,)), AUCS)
    page = markdown(record_of(request(ARMS, (1,)), outcomes))
    assert "With one seed there are no intervals" in page
    assert "Difference in AUC" not in page
    assert "| uniform | 1 | 0.8000 | 0.7000 |" in page


def test_the_terminal_s_table_is_whole_and_aligned(record: dict[str, Any]) -> None:
    title, *arms, about, header, difference = terminal_tables(record, "eval")
    assert title == "AUC on data.eval, 60 rows; baseline: 'uniform'"
    assert len({len(line) for line in arms}) == 1
    assert arms[0].split()[:4] == ["arm", "seeds", "purchase", "cart"]
    assert about.startswith("Difference in AUC to 'uniform', paired by seed")
    assert len(difference) == len(header)


def test_a_failed_cell_is_named_with_its_last_words_and_its_log(tmp_path: Path) -> None:
    first, *others = outcomes_of(cells_of(tmp_path, ARMS, (1, 2)), AUCS)
    failed = Outcome(first.cell, None, 0, None, Failure(1, "no room | left"))
    page = markdown(record_of(request(ARMS, (1, 2)), [failed, *others]))
    assert "3 of 4 runs are finished" in page
    assert (
        "- uniform-seed1 failed with status 1: no room | left; its log: uniform-seed1.log" in page
    )
    (uniform,) = (line for line in page.splitlines() if line.startswith("| uniform"))
    assert uniform.startswith("| uniform | 1 | 0.8200 |"), "its other seed counts"


def test_a_choice_says_on_each_log_whether_its_conditions_hold(tmp_path: Path) -> None:
    rule = "max cart subject to purchase >= baseline - 0.02 and cart >= 0.75"
    asked, later = request(ARMS, (1, 2), rule, "later"), log("later")
    on_test = {key: (a - 0.02, b) for key, (a, b) in AUCS.items()}
    on_test |= {("uniform", seed): (0.85, 0.7) for seed in (1, 2)}
    outcomes = outcomes_of(cells_of(tmp_path, ARMS, (1, 2)), AUCS, on_test)
    record = with_choice(record_of(asked, outcomes, test=later), asked, outcomes, later)
    said = list(choice_sentences(record["choices"][0]))
    assert said[0] == (
        "chosen on data.eval, by the means over the seed(s) 1, 2: 'alpha=-1' (baseline: 'uniform')"
    )
    assert not any("flatter" in sentence for sentence in said)
    assert said[2].startswith(
        "on data.eval it holds 'purchase >= baseline - 0.02': 0.79500, the bound is 0.79000"
    )
    assert said[3].startswith("on data.eval it holds 'cart >= 0.75'")
    assert said[5].startswith(
        "on the test log it does NOT hold 'purchase >= baseline - 0.02': 0.77500, the bound is "
        "0.83000 (above it by -0.05500, 95 % interval "
    )
    assert f"## {rule}" in markdown(record)


def test_a_choice_without_a_test_log_says_that_its_numbers_flatter_it(tmp_path: Path) -> None:
    asked = request(ARMS, (1, 2), "max cart")
    outcomes = outcomes_of(cells_of(tmp_path, ARMS, (1, 2)), AUCS)
    record = with_choice(record_of(asked, outcomes), asked, outcomes, None)
    assert list(choice_sentences(record["choices"][0]))[-1].startswith(
        "it was chosen by these numbers, so they flatter it; --test LOG judges it by rows"
    )


def test_a_sweep_with_more_seeds_says_how_many_stand_behind_each_number(tmp_path: Path) -> None:
    """Called again with a third and a fourth seed, of which one cell failed and one still waits."""
    third = Arm("alpha=3", ("method.alpha=3",))
    arms = [*ARMS, third]
    both = request(ARMS, (1, 2), "max cart")
    two = outcomes_of(cells_of(tmp_path, ARMS, (1, 2)), AUCS)
    earlier = with_choice(record_of(both, two), both, two, None)
    more = AUCS | {("uniform", 3): (0.9, 0.9), ("alpha=-1", 4): (0.5, 0.5)}
    more |= {("alpha=3", seed): (0.8, 0.7) for seed in (1, 2, 3, 4)}
    more |= {("uniform", 4): (0.9, 0.9)}
    outcomes = outcomes_of(cells_of(tmp_path, arms, (1, 2, 3, 4)), more)
    record = record_of(request(arms, (1, 2, 3, 4)), outcomes, earlier=earlier)
    page = markdown(record)
    (short, differences) = (line for line in page.splitlines() if line.startswith("| alpha=-1"))
    columns = short.split(" | ")
    assert columns[1] == "3", "its own seeds: 1, 2 and 4"
    assert (columns[6], columns[7]) == ("-", ""), "no rank and no place in the Pareto set"
    assert differences.split(" | ")[1] == "3"
    assert (
        "alpha=-1 of these 3 arms lack(s) seeds that others have, so the means are not of" in page
    )
    assert "11 of 12 runs are finished, of 3 arms with the seed(s) 1, 2, 3, 4." in page
    assert "by the means over the seed(s) 1, 2: 'alpha=-1'" in page, "the earlier choice"
    waiting = [outcome.cell.name for outcome in outcomes if outcome.status == "waiting"]
    assert waiting == ["alpha_-1-seed3"]


def test_delta_m_over_fewer_seeds_than_the_arm_has_says_so(tmp_path: Path) -> None:
    aucs = {key: AUCS[key] for key in AUCS if key != ("uniform", 2)}
    outcomes = outcomes_of(cells_of(tmp_path, ARMS, (1, 2)), aucs)
    page = markdown(record_of(request(ARMS, (1, 2)), outcomes))
    arm, difference = (line for line in page.splitlines() if line.startswith("| alpha=-1"))
    assert "| 2 | 0.7950 ±" in arm
    assert "| -2.33 (1 seed(s)) |" in arm
    assert difference.startswith("| alpha=-1 | 1 | -0.0200 |"), "and has no interval"


def test_cells_that_failed_for_the_same_reason_are_told_in_one_sentence(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, ARMS, (1, 2, 3))
    outcomes = [
        Outcome(cell, None, 0, None, Failure(1, f"run {cell.name!r}: no space left on device"))
        for cell in cells[:-1]
    ]
    outcomes.append(Outcome(cells[-1], None, 0, None, Failure(-9, "killed by SIGKILL")))
    record = record_of(request(ARMS, (1, 2, 3)), outcomes)
    assert list(failure_sentences(record["cells"])) == [
        "uniform-seed1, alpha_-1-seed1, uniform-seed2 and 2 more failed with status 1: run "
        "'uniform-seed1': no space left on device; the log of uniform-seed1: uniform-seed1.log",
        "alpha_-1-seed3 failed with status -9: killed by SIGKILL; its log: alpha_-1-seed3.log",
    ]


def test_a_log_that_judges_every_arm_confirms_none(tmp_path: Path) -> None:
    outcomes = outcomes_of(cells_of(tmp_path, ARMS, (1, 2)), AUCS, AUCS)
    asked = request(ARMS, (1, 2), test="later")
    record = record_of(asked, outcomes, test=log("later"))
    assert "so the best of them is not confirmed by this log" in "\n".join(notes(record, "test"))
    assert list(notes(record, "eval")) == []
