"""Levels in batched products are the paper's equations, expert by expert and gate by gate."""

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.contract import BodyInputs, MultiTaskBody
from recsys_mtl.model.flat_memory import FlatMemory
from recsys_mtl.model.ownership import trace_ownership
from tests.unit.model.small_bodies import (
    TASK_NAMES,
    fresh_body,
    fresh_masks,
    logits_of,
    ple,
    shape_of,
)

# B batch rows, S shared experts, M experts of one task, T tasks, L levels
BATCH = 7
every_size = pytest.mark.parametrize(
    ("levels", "shared", "own", "widths"),
    [(1, 2, 1, (6,)), (2, 1, 2, (9, 6)), (2, 2, 1, (6,)), (3, 1, 1, (8,)), (4, 2, 2, (5, 6))],
)


def fresh_inputs() -> BodyInputs:
    return BodyInputs(torch.randn(BATCH, 8), torch.randn(BATCH, 3))


def everything(body: MultiTaskBody) -> dict[str, nn.Parameter]:
    parameters = dict(body.shared_parameters())
    for task in range(len(TASK_NAMES)):
        parameters |= body.task_parameters(task)
    return parameters


class Plain:
    """Tang et al.'s PLE with one expert and one gate at a time."""

    def __init__(self, body: MultiTaskBody, masks: dict[str, Tensor], levels: int) -> None:
        self.parameters, self.masks, self.levels = everything(body), masks, levels

    def expert(self, group: str, place: int, hidden: Tensor) -> Tensor:
        """[B, H] One row of the paper's S^k."""
        depth = 0
        while f"{group}.{depth}.weight" in self.parameters:
            weight = self.parameters[f"{group}.{depth}.weight"][place]
            hidden = torch.relu(hidden @ weight.T + self.parameters[f"{group}.{depth}.bias"][place])
            if self.masks:  # experts lie side by side in a site
                units = slice(place * len(weight), (place + 1) * len(weight))
                hidden = hidden * self.masks[f"{group}.{depth}"][:, units]
            depth += 1
        return hidden

    def experts(self, group: str, hidden: Tensor) -> list[Tensor]:
        count = len(self.parameters[f"{group}.0.weight"])
        return [self.expert(group, place, hidden) for place in range(count)]

    def mixed(self, gate: list[str], selector: Tensor, experts: list[Tensor]) -> Tensor:
        """[B, H] The paper's g^k: softmax of a linear map of the selector, over the experts."""
        weights = torch.cat([self.parameters[f"{part}.weight"] for part in gate])
        assert len(weights) == len(experts)
        scores = (selector @ weights.T).exp()
        shares = scores / scores.sum(dim=1, keepdim=True)
        return torch.stack([shares[:, n, None] * e for n, e in enumerate(experts)]).sum(dim=0)

    def logits(self, inputs: BodyInputs) -> Tensor:
        """[B, T]"""
        reads = {name: torch.cat(inputs, dim=1) for name in (*TASK_NAMES, "shared by all")}
        for place in range(self.levels):
            level, before = f"levels.{place}", dict(reads)
            shared = self.experts(f"{level}.shared_experts", before["shared by all"])
            own = {n: self.experts(f"{level}.task_experts.{n}", before[n]) for n in TASK_NAMES}
            for name in TASK_NAMES:
                gate, experts = [f"{level}.gates.{name}"], own[name] + shared
                reads[name] = self.mixed(gate, before[name], experts)
            if place < self.levels - 1:
                gate = [f"{level}.shared_gate.{name}" for name in TASK_NAMES]
                reads["shared by all"] = self.mixed(
                    [*gate, f"{level}.shared_gate"],
                    before["shared by all"],
                    [expert for name in TASK_NAMES for expert in own[name]] + shared,
                )
        columns = []
        for name in TASK_NAMES:
            head = [self.parameters[f"heads.{name}.{at}"] for at in ("0.weight", "0.bias")]
            hidden = (reads[name] @ head[0].T + head[1]).clamp(min=0)
            last = [self.parameters[f"heads.{name}.{at}"] for at in ("2.weight", "2.bias")]
            columns.append(hidden @ last[0].T + last[1])
        return torch.cat(columns, dim=1)


@pytest.mark.parametrize("dropout", [False, True], ids=["all units", "dropout"])
@every_size
def test_logits_are_those_of_the_paper_s_equations(
    levels: int, shared: int, own: int, widths: tuple[int, ...], dropout: bool
) -> None:
    body, inputs = fresh_body(ple(levels, shared, own, *widths), shape_of()), fresh_inputs()
    masks = fresh_masks(body, BATCH) if dropout else {}
    expected = Plain(body, masks, levels).logits(inputs)
    torch.testing.assert_close(logits_of(body, inputs, masks), expected)


@every_size
def test_what_a_task_alone_depends_on_is_its_own_and_the_rest_is_shared(
    levels: int, shared: int, own: int, widths: tuple[int, ...]
) -> None:
    body = fresh_body(ple(levels, shared, own, *widths), shape_of())
    names = {name.rpartition(".")[0] for name in body.task_parameters(1)}
    assert {name for name in names if not name.startswith("heads.cart")} == {
        *(f"levels.{levels - 1}.task_experts.cart.{depth}" for depth in range(len(widths))),
        *(f"levels.{place}.gates.cart" for place in range(max(0, levels - 2), levels)),
    }
    if levels > 1:
        assert "levels.0.task_experts.cart.0.weight" in body.shared_parameters()
        assert "levels.0.shared_gate.weight" in body.shared_parameters()
    assert trace_ownership(body, shape_of()).above == ()


def test_tasks_part_where_the_shared_experts_end() -> None:
    inputs = fresh_inputs()
    shapes = {
        levels: [
            tuple(part.shape[1:])
            for part in fresh_body(ple(levels, 2, 3, 6), shape_of()).representation(inputs, {})
        ]
        for levels in (1, 2, 3)
    }
    assert shapes == {
        1: [(2, 6), (8,), (3,)],
        2: [(2, 6), (2, 6), (3, 6), (3, 6), (3, 6), (8,), (3,)],
        3: [(2, 6), (2, 6), (3, 6), (3, 6), (3, 6), (6,), (6,), (6,)],
    }


def test_layers_are_the_depths_of_groups_and_gates_with_the_last_shared_experts_last() -> None:
    body = fresh_body(ple(2, 2, 1, 9, 6), shape_of())
    layers = body.shared_layers()
    FlatMemory(body.shared_parameters(), layers, torch.device("cpu"))
    assert list(layers) == [
        *(f"levels.0.task_experts.{name}.{depth}" for name in TASK_NAMES for depth in (0, 1)),
        "levels.0.shared_experts.0",
        "levels.0.shared_experts.1",
        "levels.0.shared_gate",
        "levels.1.shared_experts.0",
        "levels.1.shared_experts.1",
    ]
    assert layers["levels.0.shared_gate"] == (
        *(f"levels.0.shared_gate.{name}.weight" for name in TASK_NAMES),
        "levels.0.shared_gate.weight",
    )
    assert body.shared_parameters()["levels.0.shared_gate.weight"].shape == (2, 11)
    assert body.shared_parameters()["levels.1.shared_experts.0.weight"].shape == (2, 9, 6)


@every_size
def test_what_reads_the_inputs_has_their_columns_last(
    levels: int, shared: int, own: int, widths: tuple[int, ...]
) -> None:
    body = fresh_body(ple(levels, shared, own, *widths), shape_of())
    readers = body.input_parameters()
    assert readers is not None
    found = {n for n, p in everything(body).items() if p.dim() > 1 and p.shape[-1] == 11}
    assert readers == found
    assert len(readers) == (3 + 1) + 3 + (4 if levels > 1 else 0)
