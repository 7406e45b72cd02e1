"""Experts in one batched product are experts one by one, mixed by each task's gate."""

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.contract import BodyInputs, MultiTaskBody
from tests.unit.model.small_bodies import (
    TASK_NAMES,
    fresh_body,
    fresh_masks,
    logits_of,
    mmoe,
    shape_of,
)

# B batch rows, N experts, H units of an expert's last layer, T tasks
BATCH = 7
every_size = pytest.mark.parametrize(
    ("experts", "widths"), [(1, (6,)), (4, (6,)), (1, (9, 6)), (4, (9, 6)), (3, (9, 8, 6))]
)


def fresh_inputs() -> BodyInputs:
    return BodyInputs(torch.randn(BATCH, 8), torch.randn(BATCH, 3))


def expert_layers(body: MultiTaskBody, expert: int, depths: int) -> list[nn.Linear]:
    """One expert's layers as torch's own, by the names of the parameters."""
    shared, layers = body.shared_parameters(), []
    for depth in range(depths):
        weight = shared[f"experts.{depth}.weight"][expert]
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": shared[f"experts.{depth}.bias"][expert]})
        layers.append(layer)
    return layers


def plain_logits(
    body: MultiTaskBody,
    inputs: BodyInputs,
    masks: dict[str, Tensor],
    experts: int,
    widths: tuple[int, ...],
) -> Tensor:
    """[B, T] Equations 6 and 7 of Ma et al., expert by expert and task by task."""
    joined, outputs = torch.cat(inputs, dim=1), []
    for expert in range(experts):
        hidden = joined
        for depth, layer in enumerate(expert_layers(body, expert, len(widths))):
            hidden = layer(hidden).clamp(min=0)
            if masks:  # experts lie side by side in a site
                units = slice(expert * widths[depth], (expert + 1) * widths[depth])
                hidden = hidden * masks[f"experts.{depth}"][:, units]
        outputs.append(hidden)
    logits = []
    for task, name in enumerate(TASK_NAMES):
        own = body.task_parameters(task)
        scores = (joined @ own[f"gates.{name}.weight"].T).exp()
        shares = scores / scores.sum(dim=1, keepdim=True)
        mixed = sum(shares[:, n : n + 1] * output for n, output in enumerate(outputs))
        hidden = (mixed @ own[f"heads.{name}.0.weight"].T + own[f"heads.{name}.0.bias"]).clamp(0)
        logits.append(hidden @ own[f"heads.{name}.2.weight"].T + own[f"heads.{name}.2.bias"])
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("dropout", [False, True], ids=["all units", "dropout"])
@every_size
def test_logits_are_those_of_single_experts_with_torch_s_linear_layers(
    experts: int, widths: tuple[int, ...], dropout: bool
) -> None:
    body, inputs = fresh_body(mmoe(experts, *widths), shape_of()), fresh_inputs()
    masks = fresh_masks(body, BATCH) if dropout else {}
    expected = plain_logits(body, inputs, masks, experts, widths)
    torch.testing.assert_close(logits_of(body, inputs, masks), expected)


@every_size
def test_tasks_part_at_the_experts_outputs_and_the_inputs(
    experts: int, widths: tuple[int, ...]
) -> None:
    body, inputs = fresh_body(mmoe(experts, *widths), shape_of()), fresh_inputs()
    outputs, pooled, dense = body.representation(inputs, {})
    assert outputs.shape == (BATCH, experts, widths[-1])
    assert (outputs >= 0).all()
    assert pooled is inputs.pooled
    assert dense is inputs.dense


def test_each_logit_comes_from_the_gate_and_the_head_of_its_own_task() -> None:
    body, inputs = fresh_body(mmoe(4, 9, 6), shape_of()), fresh_inputs()
    for prefix in ("gates", "heads"):
        before = logits_of(body, inputs, {})
        with torch.no_grad():
            for name, parameter in body.task_parameters(1).items():
                if name.startswith(prefix):
                    parameter.add_(torch.randn_like(parameter))
        changed = (logits_of(body, inputs, {}) != before).any(dim=0)
        assert changed.tolist() == [False, True, False], prefix


def test_parameters_are_named_by_depth_and_task() -> None:
    body = fresh_body(mmoe(4, 9, 6, heads=()), shape_of())
    shapes = {name: tuple(p.shape) for name, p in body.shared_parameters().items()}
    assert shapes == {
        "experts.0.weight": (4, 9, 11),
        "experts.0.bias": (4, 9),
        "experts.1.weight": (4, 6, 9),
        "experts.1.bias": (4, 6),
    }
    assert body.shared_layers() == {
        "experts.0": ("experts.0.weight", "experts.0.bias"),
        "experts.1": ("experts.1.weight", "experts.1.bias"),
    }
    own = {name: tuple(p.shape) for name, p in body.task_parameters(2).items()}
    assert own == {
        "gates.wish.weight": (4, 11),
        "heads.wish.0.weight": (1, 6),
        "heads.wish.0.bias": (1,),
    }
    assert body.dropout_sites() == {"experts.0": 36, "experts.1": 24}


def test_experts_begin_apart_within_the_bounds_of_torch_s_linear_layers() -> None:
    body = fresh_body(mmoe(8, 40, 30), shape_of())
    shared = body.shared_parameters()
    for depth, inputs in enumerate((11, 40)):
        weight, bias = shared[f"experts.{depth}.weight"], shared[f"experts.{depth}.bias"]
        limit = inputs**-0.5
        for drawn in (weight, bias):
            assert drawn.abs().max() <= limit
            # 240 draws at least: none in the outer tenth of either side has a chance of 1e-5.
            assert drawn.max() > 0.9 * limit
            assert drawn.min() < -0.9 * limit
        assert len({tuple(expert.flatten().tolist()) for expert in weight}) == 8
