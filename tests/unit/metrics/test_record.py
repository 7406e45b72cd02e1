"""Each step's row of the trace, and the totals over a run."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from recsys_mtl.data.features import REJECT_REASONS
from recsys_mtl.gradients.conflicts import PairCounts
from recsys_mtl.metrics.columns import Column, trace_columns
from recsys_mtl.metrics.phases import PHASE_BUCKETS_SECONDS, PHASES, PhaseClock
from recsys_mtl.metrics.record import StepRecord, Totals, record_rows
from tests.unit.metrics.records import (
    CONFLICT,
    GRADOPS_COLUMNS,
    MADE_UP_COLUMNS,
    TASKS,
    record,
    weighting,
)

LAYERS = ("bottom.layers.0", "tables.item")


def rows_of(
    *records: StepRecord,
    last_step: int,
    steps_per_epoch: int = 3,
    columns: Sequence[Column] = GRADOPS_COLUMNS,
) -> list[dict[str, Any]]:
    return record_rows(
        records, columns, last_step=last_step, attempt=2, steps_per_epoch=steps_per_epoch
    )


def of_tasks(row: dict[str, Any], quantity: str) -> list[float]:
    return [row[f"{quantity}_{task}"] for task in TASKS]


def test_a_row_holds_what_a_person_computes_from_the_gradients() -> None:
    (row,) = rows_of(record(), last_step=1)
    assert (row["rows"], row["rejected_rows"], row["attempt"]) == (64, 3, 2)
    assert (row["rejected_rows_unreadable"], row["rejected_rows_label"]) == (2, 1)
    assert (row["conflict"], row["min_norm"], row["skipped"]) == (True, False, False)
    assert row["update_norm"] == 1.5
    assert row["learning_rate_factor"] == 0.75
    assert of_tasks(row, "loss") == pytest.approx([0.1, 0.2, 0.3])
    assert of_tasks(row, "gradient_norm") == pytest.approx([5.0, 5.0, math.sqrt(2)])
    assert of_tasks(row, "applied_cosine") == pytest.approx([0.5, 0.75, 1.0])
    assert of_tasks(row, "weight") == pytest.approx([1.0, 1.0, 1.0])
    assert row["cosine_purchase_cart"] == pytest.approx(-0.48)
    assert row["cosine_purchase_wish"] == pytest.approx(0.8 / math.sqrt(2))
    assert row["cosine_cart_wish"] == pytest.approx(0.6 / math.sqrt(2))
    assert all(math.isnan(auc) for auc in of_tasks(row, "auc_window"))


def test_shares_kept_and_contributions_are_those_of_the_projected_gradients() -> None:
    (row,) = rows_of(record(), last_step=1)
    gradients = CONFLICT.double()
    projected = gradients.clone()
    for task, other in ((0, 1), (1, 0)):  # the two that conflict; wish stays as it is
        normal = torch.linalg.cross(gradients[other], gradients[2])
        projected[task] = (gradients[task] @ normal) / (normal @ normal) * normal
    norms = gradients.norm(dim=1)
    assert of_tasks(row, "share_kept") == pytest.approx((projected.norm(dim=1) / norms).tolist())
    contributions = gradients @ projected.sum(dim=0) / norms
    assert of_tasks(row, "contribution") == pytest.approx(contributions.tolist())


def test_a_step_without_conflict_that_was_skipped_says_so() -> None:
    (row,) = rows_of(record(torch.eye(3), skipped=True), last_step=1)
    assert (row["conflict"], row["skipped"]) == (False, True)


def test_a_step_that_fell_back_to_min_norm_says_so() -> None:
    angles = torch.tensor([0.0, 100.0, 170.0]).deg2rad()
    plane = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert rows_of(record(plane), last_step=1)[0]["min_norm"] is True


def test_steps_count_up_to_the_last_and_epochs_turn_after_their_last_step() -> None:
    rows = rows_of(*[record() for _ in range(5)], last_step=7, steps_per_epoch=3)
    assert [(row["step"], row["epoch"]) for row in rows] == [(3, 0), (4, 1), (5, 1), (6, 1), (7, 2)]


def test_every_record_keeps_its_own_numbers() -> None:
    rows = rows_of(
        record(rows=(64, 0, 0, 0, 0, 0)),
        record(2 * CONFLICT, rows=(32, 5, 0, 0, 0, 0)),
        last_step=2,
    )
    assert [(row["rows"], row["rejected_rows"]) for row in rows] == [(64, 0), (32, 5)]
    assert [row["gradient_norm_purchase"] for row in rows] == pytest.approx([5.0, 10.0])


def test_a_step_that_did_not_ask_the_method_has_weights_and_no_number_of_a_gradient() -> None:
    reused = weighting((1.5, 1.0, 0.5), coefficients=(-1.5, -1.0, -0.5))
    (row,) = rows_of(record(weighed=reused, compared=False), last_step=1)
    assert of_tasks(row, "weight") == [1.5, 1.0, 0.5]
    assert of_tasks(row, "coefficient") == [-1.5, -1.0, -0.5]
    assert of_tasks(row, "loss") == pytest.approx([0.1, 0.2, 0.3])
    assert (row["conflict"], row["min_norm"]) == (False, False)
    for quantity in ("contribution", "gradient_norm", "share_kept", "auc_window"):
        assert all(math.isnan(value) for value in of_tasks(row, quantity)), quantity
    assert all(math.isnan(row[column]) for column in row if column.startswith("cosine_"))
    assert row.keys() == rows_of(record(), last_step=1)[0].keys()


def test_what_a_method_declares_is_in_the_row_under_its_own_names() -> None:
    asked = weighting(pull=[0.1, math.nan, 0.3], step_radius=2.5, cornered=True)
    rows = rows_of(
        record(weighed=asked), record(weighed=weighting()), last_step=2, columns=MADE_UP_COLUMNS
    )
    pull = of_tasks(rows[0], "pull")
    assert pull[::2] == pytest.approx([0.1, 0.3])
    assert math.isnan(pull[1])
    assert (rows[0]["step_radius"], rows[0]["cornered"]) == (2.5, True)
    assert all(math.isnan(value) for value in (*of_tasks(rows[1], "pull"), rows[1]["step_radius"]))
    assert rows[1]["cornered"] is False
    assert not {name for name in rows[0] if name.startswith(("contribution", "share_kept"))}


@pytest.mark.parametrize("columns", [GRADOPS_COLUMNS, MADE_UP_COLUMNS], ids=["gradops", "made up"])
def test_a_row_has_every_column_of_the_trace_in_its_kind(columns: Sequence[Column]) -> None:
    (row,) = rows_of(record(), last_step=1, columns=columns)
    assert row.keys() == {column.name for column in columns}
    types = {"count": int, "flag": bool, "number": float}
    assert [c.name for c in columns if type(row[c.name]) is not types[c.kind]] == []


def test_opposition_is_told_apart_from_not_having_looked() -> None:
    rows = rows_of(record(), record(opposes=False), record(opposes=True), last_step=3)
    assert [(row["audited"], row["opposes"]) for row in rows] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    totals = Totals()
    totals.add(rows, GRADOPS_COLUMNS, seconds=1.0)
    assert (totals.audited_steps, totals.opposing_steps) == (2, 1)
    (skipped,) = rows_of(record(opposes=False, skipped=True), last_step=1)
    assert skipped["audited"] is False, "its gradients are not finite"


def test_totals_count_every_step_once_however_they_arrive() -> None:
    rows = rows_of(
        record(rows=(64, 1, 0, 0, 0, 0)),
        record(torch.eye(3), rows=(64, 0, 2, 0, 1, 0), skipped=True),
        record(rows=(10, 3, 0, 0, 0, 0)),
        last_step=3,
    )
    at_once, in_parts = Totals(), Totals()
    at_once.add(rows, GRADOPS_COLUMNS, seconds=1.5)
    in_parts.add(rows[:1], GRADOPS_COLUMNS, seconds=0.5)
    in_parts.add(rows[1:], GRADOPS_COLUMNS, seconds=1.0)
    assert at_once == in_parts
    assert at_once.rows == 138
    assert at_once.rejected_rows == dict.fromkeys(REJECT_REASONS, 0) | {
        "unreadable": 4,
        "label": 2,
        "only_where": 1,
    }
    assert (at_once.conflicting_steps, at_once.skipped_steps) == (2, 1)
    assert at_once.method_flag_steps == {"min_norm": 0}
    assert at_once.weight_sums == pytest.approx(dict.fromkeys(TASKS, 2.0))
    assert at_once.labelled_steps == dict.fromkeys(TASKS, 2), "not the skipped one"
    assert at_once.seconds == 1.5


def test_a_task_s_weights_are_summed_over_the_steps_with_rows_of_it() -> None:
    rows = rows_of(
        record(weighed=weighting((0.5, 0.7, 0.0)), labelled=(3, 1, 0)),
        record(weighed=weighting((0.25, 0.9, 2.0)), labelled=(1, 0, 5)),
        last_step=2,
    )
    assert of_tasks(rows[1], "labelled") == [1, 0, 5]
    totals = Totals()
    totals.add(rows, GRADOPS_COLUMNS, seconds=1.0)
    assert list(totals.labelled_steps.values()) == [2, 1, 1]
    assert list(totals.weight_sums.values()) == pytest.approx([0.75, 0.7, 2.0])


def test_a_method_s_flags_are_counted_by_their_names_and_its_numbers_are_not() -> None:
    asked = [weighting(cornered=cornered) for cornered in (True, False, True)]
    rows = rows_of(
        *(record(weighed=w) for w in (*asked, weighting())), last_step=4, columns=MADE_UP_COLUMNS
    )
    totals = Totals()
    totals.add(rows[:1], MADE_UP_COLUMNS, seconds=1.0)
    totals.add(rows[1:], MADE_UP_COLUMNS, seconds=1.0)
    assert totals.method_flag_steps == {"cornered": 2}


def test_steps_that_took_products_are_counted_as_compared() -> None:
    rows = rows_of(record(), record(compared=False), last_step=2)
    totals = Totals()
    totals.add(rows, GRADOPS_COLUMNS, seconds=1.0)
    assert totals.compared_steps == 1


def test_pairs_of_a_search_are_counted_layer_by_layer_where_the_step_was_taken() -> None:
    columns = trace_columns(TASKS, (), LAYERS)
    counts = PairCounts(torch.tensor([2, 0]), torch.tensor([3, 1]))
    searched = replace(record(weighed=weighting()), conflicts=counts)
    skipped = replace(searched, skipped=torch.tensor(True))
    without = record(weighed=weighting())
    rows = rows_of(searched, skipped, searched, without, last_step=4, columns=columns)
    found = [[row[f"conflicting_pairs_{layer}"] for layer in LAYERS] for row in rows]
    assert found[0] == found[2] == [2.0, 0.0]
    assert all(math.isnan(pairs) for pairs in (*found[1], *found[3]))
    assert rows[0]["compared_pairs_tables.item"] == 1.0
    assert all(row.keys() == {column.name for column in columns} for row in rows)
    totals = Totals()
    totals.add(rows[:1], columns, seconds=1.0)
    totals = Totals.from_json(json.loads(json.dumps(totals.to_json())))
    totals.add(rows[1:], columns, seconds=1.0)
    assert totals.search_steps == 2
    assert totals.conflicting_pairs == {"bottom.layers.0": 4, "tables.item": 0}
    assert totals.compared_pairs == {"bottom.layers.0": 6, "tables.item": 2}


def test_a_search_of_skipped_steps_alone_has_counted_no_pair_of_each_layer() -> None:
    columns = trace_columns(TASKS, (), LAYERS)
    totals = Totals()
    rows = rows_of(record(weighed=weighting(), skipped=True), last_step=1, columns=columns)
    totals.add(rows, columns, seconds=1.0)
    assert (totals.search_steps, totals.conflicting_pairs) == (0, dict.fromkeys(LAYERS, 0))


def test_steps_are_counted_in_the_bucket_that_holds_their_seconds_by_phase() -> None:
    first, second, last = PHASE_BUCKETS_SECONDS[0], PHASE_BUCKETS_SECONDS[1], 30.0
    assert last == PHASE_BUCKETS_SECONDS[-1]
    forward = [0.0, first, math.nextafter(first, 1.0), second, last, math.nextafter(last, 31.0)]
    idle = dict.fromkeys(PHASES, 0.0)
    steps = [replace(record(), seconds=idle | {"forward": seconds}) for seconds in forward]
    totals = Totals()
    totals.add(rows_of(*steps, last_step=6), GRADOPS_COLUMNS, seconds=61.0)
    between = [0] * (len(PHASE_BUCKETS_SECONDS) - 3)
    assert totals.phase_counts["forward"] == [2, 2, *between, 1, 1]
    assert totals.phase_counts["optimizer"] == [6, 0, *between, 0, 0]
    assert totals.phase_seconds["forward"] == pytest.approx(sum(forward))
    assert totals.phase_seconds["optimizer"] == 0.0


def test_totals_of_no_step_name_every_reason_and_phase() -> None:
    totals = Totals().to_json()
    assert totals["rejected_rows"] == dict.fromkeys(REJECT_REASONS, 0)
    empty = [0] * (len(PHASE_BUCKETS_SECONDS) + 1)
    assert totals["phase_counts"] == dict.fromkeys(PHASES, empty)
    assert totals["phase_seconds"] == dict.fromkeys(PHASES, 0.0)


def test_buckets_ascend() -> None:
    assert list(PHASE_BUCKETS_SECONDS) == sorted(set(PHASE_BUCKETS_SECONDS))


def test_totals_go_on_after_a_round_trip_through_json() -> None:
    rows = rows_of(*[record() for _ in range(4)], last_step=4)
    undisturbed, restored = (Totals(checkpoints=2, nulls={"price": 3}) for _ in range(2))
    undisturbed.add(rows, GRADOPS_COLUMNS, seconds=4.0)
    restored.add(rows[:2], GRADOPS_COLUMNS, seconds=3.0)
    restored = Totals.from_json(json.loads(json.dumps(restored.to_json())))
    restored.add(rows[2:], GRADOPS_COLUMNS, seconds=1.0)
    assert restored == undisturbed


def test_the_clock_gives_each_lap_to_its_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.5, 12.5, 12.75])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = PhaseClock(data_wait_seconds=0.125)
    for phase in ("forward", "backward", "forward"):
        clock.lap(phase)
    expected = dict.fromkeys(PHASES, 0.0) | {"data_wait": 0.125, "forward": 0.75, "backward": 2.0}
    assert clock.seconds == expected
