"""What a run has come to: the numbers of result.json, and what a person reads of them."""

import copy
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from recsys_mtl.config.file import load_config
from recsys_mtl.data.manifest import Manifest, RowGroup
from recsys_mtl.driver.committed import CommittedCheckpoint
from recsys_mtl.driver.events import choose_format
from recsys_mtl.driver.result import result_of, show_result
from recsys_mtl.gradients.methods import uniform
from recsys_mtl.gradients.methods.contract import Method, Need
from recsys_mtl.metrics.record import Totals
from tests.unit.run_files import write_run

RESULT: dict[str, Any] = {
    "run": "demo",
    "rows": 12345,
    "steps": 1200,
    "rejected_rows": 0,
    "skipped_steps": 0,
    "tasks": {
        "cart": {
            "auc": 0.81234,
            "log_loss": 0.2,
            "mean_weight": 1.05,
            "positives": 1500,
            "rows": 20000,
            "not_finite": 0,
        },
        "wish": {
            "auc": None,
            "log_loss": 0.01,
            "mean_weight": 0.95,
            "positives": 0,
            "rows": 20000,
            "not_finite": 0,
        },
    },
}

COMPARING: frozenset[Need] = frozenset({"gram"})


@pytest.fixture(autouse=True)
def _sentences() -> Iterator[None]:
    choose_format("text")
    yield
    choose_format("auto")


def metrics_of(flags: Mapping[str, int] | None = None, **purchase: float) -> dict[str, Any]:
    """Those of a last checkpoint after 4 steps, some of the purchases' numbers replaced."""
    totals = Totals(
        rows=256,
        rejected_rows={"unreadable": 5, "label": 2},
        labelled_steps={"purchase": 4, "cart": 2},
        compared_steps=3,
        conflicting_steps=2,
        seconds=2.0,
        weight_sums={"purchase": 3.0, "cart": 5.0},
        method_flag_steps=dict(flags or {}),
    )
    numbers = {"auc": 0.75, "log_loss": 0.5, "calibration": 1.25}
    numbers |= {"positives": 10, "rows": 100, "not_finite": 0, "weight": 250.0}
    return {
        "step": 4,
        "best": None,
        "stopped_early": False,
        "warm_start": None,
        "epochs": 1.0,
        "evaluation": {"purchase": numbers | purchase, "cart": numbers},
        "parameters": {"shared": 424, "tables": 1056, "task_specific": 27},
        "sharding": {},
        "totals": totals.to_json(),
    }


def result(
    tmp_path: Path,
    metrics: Mapping[str, Any],
    *overrides: str,
    needs: frozenset[Need] = COMPARING,
    best_checkpoint: CommittedCheckpoint | None = None,
) -> dict[str, Any]:
    """The result of a run whose method has these needs."""
    config = load_config(write_run(tmp_path), overrides)
    method = Method("mine", needs, uniform.weigh_tasks)
    settings = {"kind": "mine"}
    return result_of(
        config,
        metrics,
        wall_seconds=3.0,
        best_checkpoint=best_checkpoint,
        train=Manifest("clicks/train", (RowGroup("a", 0, 200),), "abc"),
        evaluation=Manifest("clicks/eval", (RowGroup("b", 0, 60), RowGroup("b", 1, 40)), "def"),
        method=method,
        method_settings=settings,
    )


def test_the_result_has_the_rejected_rows_in_all_and_by_reason(tmp_path: Path) -> None:
    made = result(tmp_path, metrics_of())
    assert made["rejected_rows"] == 7
    assert made["rejected_rows_by_reason"] == {"unreadable": 5, "label": 2}


def test_the_result_has_the_pairs_of_a_search_layers_apart_from_tables(tmp_path: Path) -> None:
    assert result(tmp_path, metrics_of())["recon"] is None
    metrics = metrics_of()
    metrics["totals"] |= {
        "search_steps": 4,
        "conflicting_pairs": {"bottom.layers.0": 3, "tables.item": 1},
        "compared_pairs": {"bottom.layers.0": 4, "tables.item": 2},
    }
    made = result(tmp_path, metrics, "recon.threshold=-0.1", needs=frozenset())
    assert made["recon"] == {
        "threshold": -0.1,
        "search_steps": 4,
        "pairs_per_step": 1,
        "layers": {"bottom.layers.0": 3},
        "tables": {"item": 1},
        "compared_pairs": {"layers": {"bottom.layers.0": 4}, "tables": {"item": 2}},
    }
    assert made["compared_steps"] == 3, "the search compared the tasks, if the method did not"


def test_the_result_says_of_which_rows_it_is(tmp_path: Path) -> None:
    assert result(tmp_path, metrics_of())["data"] == {
        "train": {"url": "clicks/train", "rows": 200, "digest": "abc"},
        "eval": {"url": "clicks/eval", "rows": 100, "digest": "def"},
    }


def test_the_result_has_what_each_task_came_to(tmp_path: Path) -> None:
    made = result(tmp_path, metrics_of())
    assert made["tasks"]["purchase"] == {
        "auc": 0.75,
        "log_loss": 0.5,
        "calibration": 1.25,
        "positives": 10,
        "rows": 100,
        "not_finite": 0,
        "mean_weight": 0.75,
        "labelled_steps": 4,
    }
    assert made["tasks"]["cart"]["mean_weight"] == 2.5, "over its two labelled steps"


def test_a_task_that_never_had_a_gradient_has_no_mean_weight(tmp_path: Path) -> None:
    metrics = metrics_of()
    metrics["totals"]["labelled_steps"]["cart"] = metrics["totals"]["weight_sums"]["cart"] = 0
    cart = result(tmp_path, metrics)["tasks"]["cart"]
    assert (cart["mean_weight"], cart["labelled_steps"]) == (None, 0)


def test_a_task_that_weighs_its_rows_has_the_sum_of_their_weights(tmp_path: Path) -> None:
    weighed = "data.labels.cart={column: cart, sample_weight: w}"
    tasks = result(tmp_path, metrics_of(), weighed)["tasks"]
    assert tasks["cart"]["weight"] == 250.0
    assert "weight" not in tasks["purchase"]


def test_the_result_has_null_for_what_cannot_be_known(tmp_path: Path) -> None:
    unknown = metrics_of(auc=math.nan, log_loss=math.nan, calibration=math.nan)
    made = result(tmp_path, unknown)
    purchase = made["tasks"]["purchase"]
    assert purchase["auc"] is purchase["log_loss"] is purchase["calibration"] is None
    json.dumps(made, allow_nan=False)


def test_a_method_that_compares_gradients_has_its_counts_and_another_has_nulls(
    tmp_path: Path,
) -> None:
    compared = result(tmp_path, metrics_of())
    assert (compared["compared_steps"], compared["conflicting_steps"]) == (3, 2)
    blind = result(tmp_path, metrics_of(), needs=frozenset({"losses"}))
    assert blind["compared_steps"] is blind["conflicting_steps"] is None


def test_each_flag_of_the_method_has_its_steps(tmp_path: Path) -> None:
    made = result(tmp_path, metrics_of({"min_norm": 2, "clipped": 0}))
    assert (made["min_norm_steps"], made["clipped_steps"]) == (2, 0)
    assert "min_norm_steps" not in result(tmp_path, metrics_of())


def test_the_result_names_the_method_that_trained_and_counts_its_parameters(tmp_path: Path) -> None:
    made = result(tmp_path, metrics_of())
    assert made["method"] == {"kind": "mine"}
    assert made["parameters"] == {"shared": 424, "tables": 1056, "task_specific": 27}


@pytest.mark.parametrize(("num_workers", "world_size"), [(0, 1), (1, 1), (4, 4)])
def test_the_driver_s_process_counts_as_a_worker_where_it_trains(
    tmp_path: Path, num_workers: int, world_size: int
) -> None:
    made = result(tmp_path, metrics_of(), f"cluster.num_workers={num_workers}")
    assert made["world_size"] == world_size


BEST: dict[str, Any] = {
    "by": "log_loss:cart",
    "value": 0.25,
    "step": 900,
    "evaluations_since": 3,
    "evaluations_without_score": 0,
    "scored_by": "log_loss:cart@abc",
    "tasks": {"cart": {"log_loss": 0.25, "auc": math.nan}},
}


def test_the_result_has_the_best_evaluation_and_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = CommittedCheckpoint("checkpoint_7", 900, -0.25, "log_loss:cart@abc")
    metrics = metrics_of() | {"best": BEST, "stopped_early": True}
    made = result(tmp_path, metrics, best_checkpoint=checkpoint)
    expected = {"checkpoint": "checkpoint_7", "tasks": {"cart": {"log_loss": 0.25, "auc": None}}}
    assert made["best"] == BEST | expected
    assert made["stopped_early"] is True
    json.dumps(made, allow_nan=False)


def test_without_best_by_no_evaluation_is_the_best(tmp_path: Path) -> None:
    made = result(tmp_path, metrics_of())
    assert (made["best"], made["stopped_early"]) == (None, False)


@pytest.mark.parametrize(
    ("changes", "stopped_early", "told"),
    [
        ({"step": 1200}, False, []),
        (
            {},
            False,
            [
                "best log_loss:cart: 0.2500 at step 900, in checkpoint_7; the numbers above are of "
                "step 1,200"
            ],
        ),
        (
            {"step": 1200, "evaluations_without_score": 2},
            True,
            [
                "stopped early, after 3 evaluations that were not better than the best",
                "2 evaluations had no log_loss:cart",
            ],
        ),
        (
            {"step": None, "value": None, "evaluations_without_score": 2},
            False,
            ["no evaluation has a log_loss:cart, so none is the best"],
        ),
    ],
)
def test_the_end_says_where_the_best_evaluation_was(
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    stopped_early: bool,
    told: list[str],
) -> None:
    best = BEST | {"checkpoint": "checkpoint_7"} | changes
    plain = shown(capsys, RESULT)
    lines = shown(capsys, RESULT | {"best": best, "stopped_early": stopped_early})
    assert [line for line in lines if line not in plain] == told


def shown(capsys: pytest.CaptureFixture[str], result: dict[str, Any]) -> list[str]:
    show_result(result, "/runs/demo")
    return capsys.readouterr().out.splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]


def test_the_table_has_a_row_a_task_and_a_dash_for_an_unknown_auc(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, RESULT)
    assert "run demo: 12,345 rows in 1,200 steps" in lines[0]
    table = [cells(line) for line in lines if line.startswith(("│", "┃"))]
    assert table == [
        ["task", "AUC", "log-loss", "mean w", "positives", "rows"],
        ["cart", "0.8123", "0.2000", "1.0500", "1,500", "20,000"],
        ["wish", "-", "0.0100", "0.9500", "0", "20,000"],
    ]


def test_an_unknown_auc_is_explained_and_a_known_one_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = [line for line in shown(capsys, RESULT) if "no AUC" in line]
    assert told == [
        "wish: no AUC on data.eval, where 0 of 20000 known labels are positive; it needs both kinds"
    ]


def test_rows_left_out_are_told_when_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert not any("left out" in line for line in shown(capsys, RESULT))
    lines = shown(capsys, copy.deepcopy(RESULT) | {"rejected_rows": 1024})
    assert "1,024 rows were left out as unusable" in lines


def test_the_share_of_rows_with_values_that_a_vocabulary_lacks_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = "values that a vocabulary lacks, of the rows trained: "
    for none in ({}, {"outside_vocabulary": {}}):
        assert not any(told in line for line in shown(capsys, RESULT | none))
    lines = shown(capsys, RESULT | {"outside_vocabulary": {"device": 3704, "hour": 5}})
    assert f"{told}device in 30.00%, hour in 0.04%" in lines


def test_the_end_says_where_everything_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, RESULT)
    for name in ("result.json", "traces.png", "trace/", "config.yaml", ""):
        assert any(line.endswith(f" /runs/demo/{name}") for line in lines), name


def test_the_result_is_one_json_object_where_programs_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    choose_format("json")
    told, note = map(json.loads, shown(capsys, RESULT))
    assert "no AUC on data.eval" in note["message"]
    assert (told["event"], told["url"], told["result"]) == ("result", "/runs/demo", RESULT)
