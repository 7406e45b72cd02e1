"""The one list of columns: what stands in it, and what is refused."""

from itertools import groupby

import pytest

from recsys_mtl.config import UserError
from recsys_mtl.gradients.methods.contract import Diagnostic
from recsys_mtl.metrics.columns import layer_column, trace_columns
from tests.unit.metrics.records import MADE_UP, MADE_UP_COLUMNS, TASKS, UNIFORM_COLUMNS


def test_every_column_says_what_it_is_in_a_sentence_and_has_a_name_of_its_own() -> None:
    names = [column.name for column in MADE_UP_COLUMNS]
    assert len(set(names)) == len(names)
    assert names[:3] == ["step", "attempt", "epoch"]
    for column in MADE_UP_COLUMNS:
        assert column.help[0].isupper()
        assert column.help.endswith(".")


def test_columns_of_one_quantity_stand_together_in_the_order_of_tasks_or_pairs() -> None:
    grouped = [
        (quantity, [column.tasks for column in columns])
        for quantity, columns in groupby(MADE_UP_COLUMNS, key=lambda column: column.quantity)
    ]
    places = dict(grouped)
    assert len(places) == len(grouped)
    assert places["loss"] == places["pull"] == [(task,) for task in TASKS]
    assert places["cosine"] == [("purchase", "cart"), ("purchase", "wish"), ("cart", "wish")]
    assert places["step_radius"] == places["cornered"] == [()]


def test_a_method_adds_the_columns_it_declares_and_no_other() -> None:
    added = [column for column in MADE_UP_COLUMNS if column not in UNIFORM_COLUMNS]
    assert [column for column in MADE_UP_COLUMNS if column in UNIFORM_COLUMNS] == [*UNIFORM_COLUMNS]
    assert added == [column for column in MADE_UP_COLUMNS if column.of_method]
    assert [(column.name, column.kind, column.seldom) for column in added] == [
        ("pull_purchase", "number", True),
        ("pull_cart", "number", True),
        ("pull_wish", "number", True),
        ("step_radius", "number", True),
        ("cornered", "flag", False),
    ]
    assert {column.help for column in added} == {diagnostic.help for diagnostic in MADE_UP}


@pytest.mark.parametrize("per_task", [True, False])
@pytest.mark.parametrize("name", sorted({column.quantity for column in UNIFORM_COLUMNS}))
def test_a_diagnostic_with_the_name_of_a_column_is_refused(name: str, per_task: bool) -> None:
    with pytest.raises(UserError, match=f"'{name}' has the name of another number of the run"):
        trace_columns(TASKS, [Diagnostic(name, "Something else.", per_task=per_task)])


@pytest.mark.parametrize("name", ["Pull", "1st", "pull-force", "pull force", "", "p.ull", "pül"])
def test_a_diagnostic_whose_name_prometheus_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="snake case"):
        trace_columns(TASKS, [Diagnostic(name, "Something.")])


def test_layers_and_tables_have_a_column_of_each_count_and_are_known_by_its_name() -> None:
    layers = ("bottom.layers.0", "tables.item_id")
    columns = [c for c in trace_columns(TASKS, MADE_UP, layers) if c.layer]
    assert [column.name for column in columns] == [
        "conflicting_pairs_bottom.layers.0",
        "conflicting_pairs_tables.item_id",
        "compared_pairs_bottom.layers.0",
        "compared_pairs_tables.item_id",
    ]
    assert [layer_column(column.name) for column in columns] == columns
    assert [
        layer_column(column.name) for column in MADE_UP_COLUMNS if layer_column(column.name)
    ] == []


def test_a_diagnostic_declared_twice_is_refused() -> None:
    twice = [Diagnostic("pull", "One."), Diagnostic("pull", "Another.", per_task=False)]
    with pytest.raises(UserError, match="'pull' has the name of another"):
        trace_columns(TASKS, twice)


def test_a_flag_per_task_is_refused() -> None:
    with pytest.raises(UserError, match=r"'cornered' is a flag per task.*per_task=False"):
        trace_columns(TASKS, [Diagnostic("cornered", "Something.", flag=True)])


def test_task_names_that_run_into_each_other_are_refused() -> None:
    with pytest.raises(UserError, match=r"2 columns 'cosine_a_b_c'.*of a and b_c.*of a_b and c"):
        trace_columns(["a", "b_c", "a_b", "c"], [])


def test_a_diagnostic_that_runs_into_a_task_s_name_is_refused() -> None:
    tasks = ["cart", "norm_cart"]
    with pytest.raises(UserError, match=r"'gradient_norm_cart'.*rename a task"):
        trace_columns(tasks, [Diagnostic("gradient", "Something.")])
