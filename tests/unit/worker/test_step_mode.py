"""What a step computes follows from its number and the section `gradients` alone."""

from dataclasses import replace

from recsys_mtl.config import Gradients
from recsys_mtl.worker.step_mode import StepMode, step_mode, steps_until_next_rows

EXACT = Gradients()
HELD = Gradients(refresh_interval_steps=3)
REPRESENTATION = Gradients(space="representation", audit_interval_steps=3)


def modes(gradients: Gradients, num_steps: int = 8) -> list[StepMode]:
    return [step_mode(gradients, True, step) for step in range(num_steps)]


def audited(gradients: Gradients) -> list[int]:
    return [step for step, mode in enumerate(modes(gradients)) if mode.audits]


def test_by_default_every_step_has_a_row_per_task_and_weights_of_its_own() -> None:
    assert modes(EXACT) == [
        StepMode(step, "parameters", row_per_task=True, audits=False) for step in range(8)
    ]
    assert steps_until_next_rows(EXACT, True) == 1


def test_a_method_that_compares_nothing_has_one_row_whatever_the_section_says() -> None:
    for gradients in (EXACT, HELD, REPRESENTATION, Gradients(scope="bottom")):
        for step in range(5):
            mode = step_mode(gradients, False, step)
            assert mode == StepMode(step, "losses", row_per_task=False, audits=False)
        assert steps_until_next_rows(gradients, False) == 1


def test_between_refreshes_the_weights_are_cached_and_one_row_serves_all() -> None:
    found = [(mode.weighting, mode.row_per_task) for mode in modes(HELD)]
    refresh, between = ("parameters", True), ("cache", False)
    assert found == [refresh, between, between, refresh, between, between, refresh, between]
    assert steps_until_next_rows(HELD, True) == 3


def test_a_refresh_measures_the_weights_it_replaces_and_the_first_has_none_to_measure() -> None:
    assert audited(HELD) == [3, 6]
    assert audited(EXACT) == []


def test_at_the_representation_rows_per_task_are_computed_to_measure_alone() -> None:
    assert {mode.weighting for mode in modes(REPRESENTATION)} == {"representation"}
    assert audited(REPRESENTATION) == [0, 3, 6]
    assert [mode.row_per_task for mode in modes(REPRESENTATION)] == [
        mode.audits for mode in modes(REPRESENTATION)
    ]
    assert steps_until_next_rows(REPRESENTATION, True) == 3


def test_a_search_gives_its_steps_a_row_per_task_and_changes_nothing_else_of_them() -> None:
    for gradients, compares in (
        (EXACT, True),
        (HELD, True),
        (REPRESENTATION, True),
        (EXACT, False),
    ):
        for step in range(8):
            without = step_mode(gradients, compares, step)
            found = step_mode(gradients, compares, step, search_steps=4)
            searched = replace(without, row_per_task=True, searches=True)
            assert found == (searched if step < 4 else without)


def test_the_scope_of_the_gradients_changes_no_step() -> None:
    assert modes(Gradients(scope="bottom")) == modes(EXACT)
