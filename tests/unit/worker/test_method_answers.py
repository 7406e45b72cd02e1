"""A method of one's own that does not return what it declares is told so at its first step."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from recsys_mtl.config import UserError
from recsys_mtl.gradients.methods.contract import (
    Diagnostic,
    Evidence,
    Method,
    MethodState,
    TaskWeighting,
)
from recsys_mtl.worker.weighing import TaskWeigher

NUM_TASKS = 3
DECLARED = (
    Diagnostic("pull", "How hard the task pulls."),
    Diagnostic("radius", "How far the step may go.", per_task=False),
)


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


def answer(
    weights: Tensor | None = None,
    coefficients: Tensor | None = None,
    diagnostics: Mapping[str, Tensor] | None = None,
) -> TaskWeighting:
    """What the method returns: as declared, but for what is given."""
    return TaskWeighting(
        coefficients=ones(NUM_TASKS) if coefficients is None else coefficients,
        weights=ones(NUM_TASKS) if weights is None else weights,
        diagnostics={"pull": ones(NUM_TASKS), "radius": ones()} | dict(diagnostics or {}),
    )


def weigh(weighting: TaskWeighting, state: MethodState | None = None) -> TaskWeighting:
    """One step with a method that returns this, and whose state is one count per task."""

    def weigh_tasks(evidence: Evidence, given: MethodState) -> tuple[TaskWeighting, MethodState]:
        return weighting, given if state is None else state

    method = Method(
        "mine",
        frozenset(),
        weigh_tasks,
        initial_state=lambda num_tasks: {"counts": torch.zeros(num_tasks)},
        diagnostics=DECLARED,
    )
    weigher = TaskWeigher(method, NUM_TASKS, seed=0, device=torch.device("cpu"))
    labelled = torch.ones(NUM_TASKS, dtype=torch.bool)
    return weigher.weigh(0, labelled).weighting


def test_an_answer_as_declared_is_taken() -> None:
    given = answer()
    assert weigh(given).diagnostics is given.diagnostics


@pytest.mark.parametrize(
    ("weighting", "said"),
    [
        (answer(diagnostics={"pull": ones()}), r"diagnostic 'pull' as .*\[\] .*shape \[3\]"),
        (answer(diagnostics={"pull": ones(2)}), r"diagnostic 'pull' as .*\[2\] .*shape \[3\]"),
        (answer(diagnostics={"radius": ones(3)}), r"diagnostic 'radius' as .*\[3\] .*shape \[\]"),
        (answer(diagnostics={"depth": ones()}), r"'depth' as .*\[\] and declares nothing"),
        (TaskWeighting(ones(3), ones(3), {"pull": ones(3)}), "'radius' as nothing and declares"),
        (answer(weights=ones(1)), r"field 'weights' as .*\[1\] .*shape \[3\]"),
        (answer(coefficients=ones()), r"field 'coefficients' as .*\[\] .*shape \[3\]"),
    ],
    ids=["no dimension", "too short", "too long", "undeclared", "forgotten", "weights", "factors"],
)
def test_another_shape_or_name_is_refused_in_one_sentence(
    weighting: TaskWeighting, said: str
) -> None:
    with pytest.raises(UserError, match=said) as error:
        weigh(weighting)
    assert str(error.value).startswith("method 'mine' returned the ")
    assert "for 3 tasks; have it return what it declares" in str(error.value)


@pytest.mark.parametrize("state", [{}, {"counts": torch.zeros(1)}, {"others": torch.zeros(3)}])
def test_a_state_of_other_names_or_shapes_is_refused(state: MethodState) -> None:
    with pytest.raises(UserError, match="the state '"):
        weigh(answer(), state)


def test_looking_at_an_answer_reads_no_value() -> None:
    # Under FakeTensorMode a value that the host would have to read does not exist.
    with FakeTensorMode():
        given = answer()
        assert weigh(given).diagnostics.keys() == given.diagnostics.keys()
