"""Backwards through the cut graph give what autograd gives on the whole one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.model.bodies.contract import BodyInputs, MultiTaskBody
from recsys_mtl.model.forward import Forward, TaskGradients, run_forward
from recsys_mtl.model.ownership import Ownership, trace_ownership
from tests.unit.model.small_bodies import (
    BODIES,
    TASK_NAMES,
    TiedBody,
    fresh_body,
    fresh_masks,
    logits_of,
    mmoe,
    shape_of,
    shared_bottom,
)

# B batch rows, E columns of pooled embeddings, F dense inputs, T tasks
BATCH = 30
INPUTS = {"both": (8, 3), "no pooled columns": (0, 3), "no dense inputs": (8, 0)}


class Case(NamedTuple):
    """A body, and what it is given."""

    body: MultiTaskBody
    ownership: Ownership
    pooled: Tensor
    dense: Tensor
    masks: dict[str, Tensor]

    def forward(self, precision: torch.dtype = torch.float32) -> Forward:
        return run_forward(
            self.body,
            self.ownership,
            self.pooled,
            self.dense,
            self.masks,
            num_tasks=len(TASK_NAMES),
            precision=precision,
        )


def fresh_case(
    make: BodyFactory, columns: tuple[int, int] = (8, 3), *, dropout: bool = False
) -> Case:
    shape = shape_of(*columns)
    body = fresh_body(make, shape)
    pooled, dense = (torch.randn(BATCH, width) for width in columns)
    masks = fresh_masks(body, BATCH) if dropout else {}
    return Case(body, trace_ownership(body, shape), pooled, dense, masks)


def losses_of(logits: Tensor) -> Tensor:
    targets = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    return (logits - targets).square().mean(dim=0)


def backward_of(forward: Forward) -> list[TaskGradients]:
    return forward.backward_to_representation(losses_of(forward.logits))


def whole_graph(case: Case) -> tuple[Tensor, Tensor]:
    """The losses [T] and the pooled embeddings they depend on, by one graph without a cut."""
    pooled = case.pooled.clone().requires_grad_()
    logits = logits_of(case.body, BodyInputs(pooled, case.dense), case.masks)
    return losses_of(logits), pooled


def expected_gradients(
    loss: Tensor, parameters: Mapping[str, Tensor], pooled: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """By name, and of the pooled embeddings: zeros where the loss does not depend on it."""
    found = torch.autograd.grad(
        loss,
        [*parameters.values(), pooled],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(parameters, found[:-1], strict=True)), found[-1]


def shared_gradients(forward: Forward, task: TaskGradients) -> tuple[dict[str, Tensor], Tensor]:
    """One loss's gradients of the shared parameters, from both sides, and of the embeddings."""
    shared = forward.body.shared_parameters()
    below = {name: torch.full_like(shared[name], torch.nan) for name in forward.ownership.trunk}
    stem = forward.trunk.backward(task.representation, below)
    gradients = {name: below.get(name, torch.zeros_like(shared[name])) for name in shared}
    for name, gradient in task.shared_above.items():
        gradients[name] = gradients[name] + gradient
    return gradients, forward.trunk.pooled_gradient(stem)


@pytest.mark.parametrize("columns", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("dropout", [False, True], ids=["all units", "dropout"])
@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)
def test_every_gradient_is_that_of_the_whole_graph(
    make: BodyFactory, dropout: bool, columns: tuple[int, int]
) -> None:
    case = fresh_case(make, columns, dropout=dropout)
    forward = case.forward()
    losses, pooled = whole_graph(case)
    torch.testing.assert_close(losses_of(forward.logits), losses)
    tasks = backward_of(forward)
    for place, (loss, task) in enumerate(zip(losses, tasks, strict=True)):
        own, _ = expected_gradients(loss, case.body.task_parameters(place), pooled)
        torch.testing.assert_close(dict(task.task_specific), own)
        shared, at_pooled = expected_gradients(loss, case.body.shared_parameters(), pooled)
        found, at_stem = shared_gradients(forward, task)
        torch.testing.assert_close(found, shared)
        torch.testing.assert_close(at_stem, at_pooled)


def test_a_gate_s_share_of_the_embeddings_gradient_counts() -> None:
    case = fresh_case(mmoe(4, 7))
    forward = case.forward()
    (task, *_) = backward_of(forward)
    experts, through_gate, dense = task.representation
    assert dense is None
    assert through_gate is not None
    assert through_gate.abs().max() > 1e-6
    _, whole = shared_gradients(forward, task)
    alone = forward.trunk.backward((experts, None, None), None)
    torch.testing.assert_close(whole, alone + through_gate)


def test_a_loss_has_no_gradient_of_what_it_does_not_read() -> None:
    case = fresh_case(TiedBody)
    forward = case.forward()
    first, _, last = backward_of(forward)
    assert [part is None for part in first.representation] == [False, True, True]
    assert [part is None for part in last.representation] == [True, False, True]
    assert first.shared_above.keys() == {"tied.weight", "tied.bias", "scale"}
    assert last.shared_above.keys() == {"scale"}


def test_a_task_s_parameter_that_its_loss_misses_at_this_batch_has_gradient_zero() -> None:
    class Switching(TiedBody):
        def logits(
            self, representation: tuple[Tensor, ...], task: int, masks: Mapping[str, Tensor]
        ) -> Tensor:
            logits = super().logits(representation, task, masks)
            return logits if len(logits) < BATCH else logits.detach() + self.scale

    forward = fresh_case(Switching).forward()
    tasks = backward_of(forward)
    for place, task in enumerate(tasks):
        assert task.task_specific.keys() == forward.body.task_parameters(place).keys()
        assert not any(gradient.any() for gradient in task.task_specific.values())


def test_the_pooled_embeddings_handed_in_are_left_as_they_are() -> None:
    case = fresh_case(mmoe(2, 7))
    (task, *_) = backward_of(case.forward())
    assert task.representation[1] is not None
    assert not case.pooled.requires_grad


def test_lower_precision_is_used_in_products_and_kept_out_of_what_leaves(
    subtests: pytest.Subtests,
) -> None:
    makers = {"bottom": shared_bottom(64, 32), "own": shared_bottom(64, 32, own=(1,))}
    for name, make in {**makers, "experts": mmoe(4, 32)}.items():
        with subtests.test(name):
            _assert_nearly_exact_in_bfloat16(fresh_case(make))


def _assert_nearly_exact_in_bfloat16(case: Case) -> None:
    lower, exact = case.forward(torch.bfloat16), case.forward()
    assert lower.trunk.representation[0].dtype == torch.bfloat16
    assert lower.logits.dtype == torch.float32
    assert not torch.equal(lower.logits, exact.logits)
    torch.testing.assert_close(lower.logits, exact.logits, rtol=0.05, atol=0.05)
    ours, theirs = every_gradient(lower), every_gradient(exact)
    assert {gradient.dtype for gradient in ours} == {torch.float32}
    all_ours, all_theirs = (torch.cat([g.flatten() for g in found]) for found in (ours, theirs))
    # A unit on the edge of its ReLU may be on in one and off in the other.
    assert (all_ours - all_theirs).norm() <= 0.2 * all_theirs.norm()


def every_gradient(forward: Forward) -> Sequence[Tensor]:
    """Of all tasks: of their own parameters, the shared ones and the pooled embeddings."""
    gradients: list[Tensor] = []
    for task in backward_of(forward):
        shared, pooled = shared_gradients(forward, task)
        gradients += [*task.task_specific.values(), *shared.values(), pooled]
    return gradients


@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)
def test_nothing_is_recorded_in_evaluation(make: BodyFactory) -> None:
    case = fresh_case(make)
    with torch.no_grad():
        forward = case.forward()
    parts = (forward.logits, *forward.cut, *forward.trunk.representation)
    assert not any(part.requires_grad for part in parts)
    torch.testing.assert_close(losses_of(forward.logits), whole_graph(case)[0].detach())
