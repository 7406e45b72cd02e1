"""PLE: levels of experts, some of them shared and some one task's, which gates mix level by level.

Source: Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model
for Personalized Recommendations", RecSys 2020, its sections on CGC and PLE. At each level a task's
gate weighs the task's own experts and the shared ones, and below the last level a shared gate
weighs all experts. What a gate gives is what the same task's experts and gate of the next level
read; the next level's shared experts and shared gate read what the shared gate gave. One level is
the paper's CGC. As there, a gate is a linear map without a bias, followed by softmax.

Deviations: all experts have one shape, at every level. The paper's loss is no part of the body: its
task weights change from epoch to epoch, and rows outside a task's sample space are left out (for
which labels have `only_where`).
"""

# B batch rows, I input columns of a level, S shared experts, M experts of one task, H units of an
# expert's last layer, T tasks, L levels

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.contract import BodyInputs, BodyShape, DropoutMasks, MultiTaskBody
from recsys_mtl.model.bodies.experts import Experts, mixture
from recsys_mtl.model.bodies.layers import head, named, parameters_in


class ProgressiveLayeredExtraction(MultiTaskBody):
    """L levels of experts and gates, then one head per task.

    Only what a task alone depends on is its own: its experts of the last level, its gates of the
    last two, and its head. A task's experts below feed the shared gate, and by it every task, so
    they are shared parameters, whatever task they are named after; so are gates further down.

    Parameters are `levels.<level>.shared_experts.<depth>.weight` [S, units, inputs],
    `levels.<level>.task_experts.<task>.<depth>.weight` [M, units, inputs],
    `levels.<level>.gates.<task>.weight` [M + S, I] and, so that tasks can come and go in a warm
    start, one part of the shared gate per task, `levels.<level>.shared_gate.<task>.weight` [M, I]
    beside `levels.<level>.shared_gate.weight` [S, I].
    """

    def __init__(
        self,
        shape: BodyShape,
        levels: int,
        shared_experts: int,
        task_experts: int,
        expert_hidden_sizes: Sequence[int],
        head_hidden_sizes: Sequence[int] = (),
    ) -> None:
        """Draw the initial parameters as torch draws those of a linear layer.

        Args:
            levels: L.
            shared_experts: S, at each level.
            task_experts: M, at each level.
            expert_hidden_sizes: units of each layer of an expert, at each level.
            head_hidden_sizes: units of each hidden layer of a head.
        """
        super().__init__()
        self._task_names = shape.task_names
        output = expert_hidden_sizes[-1]
        self.levels = nn.ModuleList(
            Level(
                f"levels.{place}",
                shape.task_names,
                shared_experts,
                task_experts,
                (output if place else shape.input_width, *expert_hidden_sizes),
                is_last=place == levels - 1,
            )
            for place in range(levels)
        )
        self.heads = nn.ModuleList(head(output, head_hidden_sizes) for _ in shape.task_names)

    def dropout_sites(self) -> dict[str, int]:
        """The output of each depth of each group of experts, level by level."""
        return {
            site: width
            for level in self._levels()
            for experts in level.all_experts()
            for site, width in experts.dropout_sites().items()
        }

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        """Where tasks part: three groups of tensors, one after the other.

        The outputs of the last level's shared experts, [B, S, H]. Where there is a level below it,
        the outputs of that level's shared experts and of each task's, [B, M, H], which the tasks'
        gates mix. And what those gates read: the inputs, or from three levels on one [B, H] per
        task.
        """
        *lower, last = self._levels()
        joined = torch.cat(inputs, dim=1)
        shared_read, reads = joined, [joined for _ in self._task_names]
        below: tuple[Tensor, ...] = ()
        for level in lower:
            own = [level.experts_of(task)(read, masks) for task, read in enumerate(reads)]
            shared = level.shared_experts(shared_read, masks)
            shared_read = level.mixed_for_shared(shared_read, own, shared)
            if level is lower[-1]:
                below = (shared, *own)  # `logits` goes on from here, task by task
            else:
                pairs = zip(reads, own, strict=True)
                reads = [level.mixed(task, *pair, shared) for task, pair in enumerate(pairs)]
        selectors = inputs if len(lower) < 2 else reads
        return last.shared_experts(shared_read, masks), *below, *selectors

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        """The head on what the task's gate of the last level gives."""
        *lower, last = self._levels()
        last_shared, *rest = representation
        if lower:
            shared, *rest = rest
            own, rest = rest[task], rest[len(self._task_names) :]
        read = torch.cat(rest, dim=1) if len(lower) < 2 else rest[task]
        if lower:
            read = lower[-1].mixed(task, read, own, shared)
        mixed = last.mixed(task, read, last.experts_of(task)(read, masks), last_shared)
        logits: Tensor = self.heads[task](mixed)
        return logits.squeeze(1)

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """All experts but the last level's task experts, the shared gates, and the tasks' gates
        below the last two levels."""
        return parameters_in(self._shared_layers())

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        """The task's experts of the last level, its gates of the last two, and its head."""
        levels = self._levels()
        layers = levels[-1].experts_of(task).layers()
        for level in levels[-2:]:
            layers |= level.gate_of(task)
        own_head = named(f"heads.{self._task_names[task]}", self.heads[task].named_parameters())
        return parameters_in(layers) | own_head

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        """Each depth of each group of experts, and each gate, level by level; the last level's
        shared experts last."""
        return {name: tuple(layer) for name, layer in self._shared_layers().items()}

    def input_parameters(self) -> frozenset[str]:
        """The first weights of the first level's experts, and its gates."""
        first = self._levels()[0]
        gates = first.shared_gate_layer()
        for task in range(len(self._task_names)):
            gates |= first.gate_of(task)
        experts = (group.input_weight() for group in first.all_experts())
        return frozenset({*parameters_in(gates), *experts})

    def _levels(self) -> list["Level"]:
        return [level for level in self.levels if isinstance(level, Level)]

    def _shared_layers(self) -> "Layers":
        *lower, last = self._levels()
        layers: Layers = {}
        for level in lower:
            for task in range(len(self._task_names)):
                layers |= level.experts_of(task).layers()
                if level is not lower[-1]:
                    layers |= level.gate_of(task)
            layers |= level.shared_experts.layers() | level.shared_gate_layer()
        return layers | last.shared_experts.layers()


Layers = dict[str, dict[str, nn.Parameter]]
"""Layer to its parameters, by name."""


class Level(nn.Module):
    """One level: experts of each task and shared ones, a gate per task, and a shared gate."""

    def __init__(
        self,
        name: str,
        task_names: Sequence[str],
        shared_experts: int,
        task_experts: int,
        widths: Sequence[int],
        *,
        is_last: bool,
    ) -> None:
        """Draw the initial parameters.

        Args:
            name: begins the names of parameters.
            shared_experts: S.
            task_experts: M.
            widths: I, then the units of each layer of an expert.
            is_last: the last level has no shared gate.
        """
        super().__init__()
        self._name, self._task_names, inputs = name, tuple(task_names), widths[0]
        self.task_experts = nn.ModuleList(
            Experts(f"{name}.task_experts.{task}", task_experts, widths) for task in task_names
        )
        self.shared_experts = Experts(f"{name}.shared_experts", shared_experts, widths)
        self.gates = nn.ModuleList(
            nn.Linear(inputs, task_experts + shared_experts, bias=False) for _ in task_names
        )
        scored = [] if is_last else [*(task_experts for _ in task_names), shared_experts]
        self.shared_gate = nn.ModuleList(nn.Linear(inputs, n, bias=False) for n in scored)

    def experts_of(self, task: int) -> Experts:
        """A task's own experts."""
        experts = self.task_experts[task]
        assert isinstance(experts, Experts)
        return experts

    def all_experts(self) -> list[Experts]:
        """Each task's experts, then the shared ones."""
        return [*map(self.experts_of, range(len(self._task_names))), self.shared_experts]

    def mixed(self, task: int, selector: Tensor, own: Tensor, shared: Tensor) -> Tensor:
        """[B, H] What a task's gate gives.

        Args:
            selector: [B, I] What the gate reads.
            own: [B, M, H] The outputs of the task's experts.
            shared: [B, S, H] Those of the shared ones.
        """
        return mixture(self.gates[task](selector), torch.cat([own, shared], dim=1))

    def mixed_for_shared(self, selector: Tensor, own: Sequence[Tensor], shared: Tensor) -> Tensor:
        """[B, H] What the shared gate gives, from the outputs of all experts; see `mixed`."""
        scores = torch.cat([part(selector) for part in self.shared_gate], dim=1)
        return mixture(scores, torch.cat([*own, shared], dim=1))

    def gate_of(self, task: int) -> Layers:
        """A task's gate as a layer."""
        layer = f"{self._name}.gates.{self._task_names[task]}"
        return {layer: named(layer, self.gates[task].named_parameters())}

    def shared_gate_layer(self) -> Layers:
        """The shared gate as a layer; none at the last level."""
        layer = f"{self._name}.shared_gate"
        names = [*(f"{layer}.{task}" for task in self._task_names), layer]
        parameters: dict[str, nn.Parameter] = {}
        for name, part in zip(names, self.shared_gate, strict=False):
            parameters |= named(name, part.named_parameters())
        return {layer: parameters} if parameters else {}
