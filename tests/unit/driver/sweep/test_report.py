"""What a person reads of a sweep."""

from pathlib import Path
from typing import Any

import pytest

from recsys_mtl.driver.sweep.outcomes import Failure, Outcome
from recsys_mtl.driver.sweep.record import with_choice
from recsys_mtl.driver.sweep.report import choice_sentences, markdown, terminal_tables
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
    assert difference.split(" | ")[1] == "-0.0150 (-0.0785 to +0.0485)"
    assert difference.split(" | ")[2] == "**+0.0502 (+0.0495 to +0.0508)**"


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
    assert said[0] == "chosen on data.eval: 'alpha=-1' (baseline: 'uniform')"
    assert said[2].startswith(
        "on data.eval it holds 'purchase >= baseline - 0.02': 0.79500, the bound is 0.79000"
    )
    assert said[3].startswith("on data.eval it holds 'cart >= 0.75'")
    assert said[5].startswith(
        "on the test log it does NOT hold 'purchase >= baseline - 0.02': 0.77500, the bound is "
        "0.83000 (above it by -0.05500, 95 % interval "
    )
    assert f"## {rule}" in markdown(record)
