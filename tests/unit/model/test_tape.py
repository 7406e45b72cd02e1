"""Backwards through the cut graph give what autograd gives on the whole one."""

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.config import Model
from recsys_mtl.model.shared_bottom import Heads, SharedBottom, build_dense_model
from recsys_mtl.model.tape import Tape, run_forward

# B batch rows, E columns of pooled embeddings, T tasks
BATCH, EMBEDDINGS, INPUTS, TASKS = 30, 8, 11, 3


def model_of(*sizes: int) -> tuple[SharedBottom, Heads]:
    seed = torch.seed() % 2**31
    print("seed", seed)
    model = Model(bottom_hidden_sizes=sizes, head_hidden_sizes=(5,))
    return build_dense_model(model, INPUTS, TASKS, seed)


def losses_of(logits: Tensor) -> Tensor:
    targets = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    return (logits - targets).square().mean(dim=0)


def whole_graph(
    bottom: SharedBottom, heads: Heads, inputs: Tensor, masks: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """The losses [T] and the inputs they depend on, by one graph without a cut."""
    inputs = inputs.clone().requires_grad_()
    return losses_of(heads(bottom(inputs, masks))), inputs


def task_gradients(tape: Tape, deltas: Tensor) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Of each task: gradients of the bottom's parameters, and of the embeddings."""
    bottom, embeddings = [], []
    for delta in deltas:
        places = [torch.full_like(p, torch.nan) for p in tape.bottom.parameters()]
        first = tape.through_bottom(delta, places)
        bottom.append(places)
        embeddings.append(tape.to_embeddings(first, EMBEDDINGS))
    return bottom, embeddings


@pytest.mark.parametrize("sizes", [(7,), (9, 6), (9, 8, 7, 6)])
@pytest.mark.parametrize("dropout", [False, True])
def test_every_gradient_is_that_of_the_whole_graph(sizes: tuple[int, ...], dropout: bool) -> None:
    bottom, heads = model_of(*sizes)
    inputs = torch.randn(BATCH, INPUTS)
    masks = [2.0 * (torch.rand(BATCH, units) < 0.5) for units in sizes] if dropout else []
    tape = run_forward(bottom, heads, inputs, masks, torch.float32)
    losses, leaf = whole_graph(bottom, heads, inputs, masks)
    torch.testing.assert_close(losses_of(tape.logits), losses)

    deltas, private = tape.through_heads(losses_of(tape.logits))
    shared, embeddings = task_gradients(tape, deltas)
    own = torch.autograd.grad(losses.sum(), list(heads.parameters()), retain_graph=True)
    torch.testing.assert_close(private, list(own))
    for task in range(TASKS):
        wanted = [*bottom.parameters(), leaf]
        *parameters, at_inputs = torch.autograd.grad(losses[task], wanted, retain_graph=True)
        torch.testing.assert_close(shared[task], parameters)
        torch.testing.assert_close(embeddings[task], at_inputs[:, :EMBEDDINGS])


def test_a_combination_goes_back_as_the_combined_loss_does() -> None:
    bottom, heads = model_of(9, 6)
    inputs, weights = torch.randn(BATCH, INPUTS), torch.tensor([1.01, -9.1, 2.0])
    tape = run_forward(bottom, heads, inputs, [], torch.float32)
    deltas, _ = tape.through_heads(losses_of(tape.logits))
    places = [torch.full_like(p, torch.nan) for p in bottom.parameters()]
    tape.through_bottom(torch.tensordot(weights, deltas, dims=1), places)
    losses, _ = whole_graph(bottom, heads, inputs, [])
    wanted = torch.autograd.grad(weights @ losses, list(bottom.parameters()))
    torch.testing.assert_close(places, list(wanted), rtol=1e-4, atol=1e-6)


def test_without_places_only_the_first_layer_is_reached() -> None:
    bottom, heads = model_of(9, 6)
    tape = run_forward(bottom, heads, torch.randn(BATCH, INPUTS), [], torch.float32)
    deltas, _ = tape.through_heads(losses_of(tape.logits))
    places = [torch.empty_like(p) for p in bottom.parameters()]
    assert torch.equal(tape.through_bottom(deltas[0], None), tape.through_bottom(deltas[0], places))


def test_lower_precision_is_used_in_products_and_kept_out_of_what_leaves() -> None:
    bottom, heads = model_of(64, 32)
    inputs = torch.randn(BATCH, INPUTS)
    tape = run_forward(bottom, heads, inputs, [], torch.bfloat16)
    exact = run_forward(bottom, heads, inputs, [], torch.float32)
    assert tape.first.dtype == tape.representation.dtype == torch.bfloat16
    assert tape.logits.dtype == torch.float32
    assert not torch.equal(tape.logits, exact.logits)
    torch.testing.assert_close(tape.logits, exact.logits, rtol=0.05, atol=0.05)
    deltas, private = tape.through_heads(losses_of(tape.logits))
    wanted, exact_private = exact.through_heads(losses_of(exact.logits))
    (found, *_), embeddings = task_gradients(tape, deltas)
    (expected, *_), exact_embeddings = task_gradients(exact, wanted)
    ours, theirs = [*found, *private, *embeddings], [*expected, *exact_private, *exact_embeddings]
    assert {gradient.dtype for gradient in ours} == {torch.float32}
    all_ours, all_theirs = (torch.cat([g.flatten() for g in found]) for found in (ours, theirs))
    # A unit on the edge of its ReLU may be on in one and off in the other.
    assert (all_ours - all_theirs).norm() <= 0.2 * all_theirs.norm()


def test_nothing_is_recorded_in_evaluation() -> None:
    bottom, heads = model_of(9, 6)
    with torch.no_grad():
        tape = run_forward(bottom, heads, torch.randn(BATCH, INPUTS), [], torch.float32)
    assert not tape.logits.requires_grad
    torch.testing.assert_close(tape.logits, heads(bottom(tape.inputs)).detach())


def test_heads_are_modules_of_the_tasks_in_order() -> None:
    _, heads = model_of(9)
    assert all(isinstance(tower, nn.Sequential) for tower in heads.towers)
    assert len(heads.towers) == TASKS
