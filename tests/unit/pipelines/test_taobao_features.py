"""What a row of the Taobao click log knows: against brute force, and case by case."""

import os
import secrets
from pathlib import Path

import pytest

from pipelines import taobao_clicks
from tests.unit.pipelines.user_behavior import (
    Event,
    at,
    brute_force,
    clicks_of,
    make_log,
    random_events,
    rows_of,
)

SAMPLE = Path(__file__).parents[4] / "shared/data/taobao_user_behavior/UserBehavior_sample.csv"


@pytest.fixture
def seed() -> int:
    drawn = secrets.randbelow(2**31)
    print(f"seed {drawn}")
    return drawn


@pytest.mark.parametrize("eval_days", [1, 3])
@pytest.mark.parametrize("events_per_bucket", [1_000_000, 60])
def test_every_column_of_a_random_log_equals_a_brute_force_count(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    eval_days: int,
    events_per_bucket: int,
) -> None:
    monkeypatch.setattr(taobao_clicks, "EVENTS_PER_BUCKET", events_per_bucket)
    events = random_events(seed, 500)
    made = clicks_of(tmp_path, events, "--eval-days", str(eval_days))
    assert made == brute_force(events, eval_days)


@pytest.mark.skipif(
    not SAMPLE.exists() and not os.environ.get("CI"), reason=f"the real sample is not at {SAMPLE}"
)
def test_every_column_of_the_real_sample_equals_a_brute_force_count(tmp_path: Path) -> None:
    lines = (line.split(",") for line in SAMPLE.read_text().splitlines())
    events = [(int(u), int(i), int(c), b, int(t)) for u, i, c, b, t in lines]
    out = make_log(SAMPLE, tmp_path / "out")
    expected = brute_force(events)
    assert [len(expected[split]) for split in ("train", "eval")] == [7732, 1310]
    for split in ("train", "eval"):
        assert rows_of(out, split) == expected[split]


def test_a_train_label_does_not_see_an_action_of_the_evaluation_days(tmp_path: Path) -> None:
    clicks = clicks_of(
        tmp_path,
        [
            (1, 100, 10, "pv", at(7, 23, 3598)),
            (1, 100, 10, "cart", at(7, 23, 3599)),
            (1, 100, 10, "buy", at(8, 0)),
            (1, 100, 10, "pv", at(8, 0)),
            (1, 100, 10, "fav", at(8, 23, 3599)),
        ],
    )
    (train,), (evaluation,) = clicks["train"], clicks["eval"]
    assert (train["purchase"], train["cart"], train["wish"]) == (0, 1, 0)
    assert (evaluation["purchase"], evaluation["cart"], evaluation["wish"]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("action", "label"),
    [
        ((1, 100, 10, "buy", at(3)), 1),
        ((1, 100, 10, "buy", at(3) - 1), 0),
        ((2, 100, 10, "buy", at(3) + 1), 0),
        ((1, 101, 10, "buy", at(3) + 1), 0),
    ],
    ids=["same second", "a second earlier", "another user", "another item"],
)
def test_a_label_needs_the_same_user_and_item_at_or_after_the_click(
    tmp_path: Path, action: Event, label: int
) -> None:
    clicks = clicks_of(tmp_path, [(1, 100, 10, "pv", at(3)), action, (9, 900, 90, "pv", at(8))])
    assert [row["purchase"] for row in clicks["train"]] == [label]


def test_a_click_knows_nothing_of_its_own_second_or_later(tmp_path: Path) -> None:
    clicks = clicks_of(
        tmp_path,
        [
            (1, 100, 10, "pv", at(3) - 7),
            (1, 101, 10, "pv", at(3)),
            (1, 102, 10, "pv", at(3)),
            (1, 101, 10, "cart", at(3)),
            (1, 103, 10, "pv", at(3) + 1),
            (1, 104, 10, "pv", at(8)),
        ],
    )
    first, *same_second, next_second = clicks["train"]
    assert (first["seconds_since_click"], first["recent_items"], first["user_clicks"]) == (
        None,
        [],
        0,
    )
    for row in same_second:
        assert (row["seconds_since_click"], row["recent_items"]) == (7, [100])
        assert (row["user_clicks"], row["user_carts"], row["category_clicks"]) == (1, 0, 1)
    assert (next_second["seconds_since_click"], next_second["user_clicks"]) == (1, 3)
    assert next_second["recent_items"] == [100, 101, 102]
