"""MMoE: experts that all tasks share, and one gate per task that weighs them for each row.

Source: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts", KDD 2018, Eq. 6-7. As there, a gate is a linear map of the inputs, without a
bias, followed by softmax.
"""

# B batch rows, I input columns, N experts, H units of an expert's last layer, T tasks

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.contract import BodyInputs, BodyShape, DropoutMasks, MultiTaskBody
from recsys_mtl.model.bodies.experts import Experts, mixture
from recsys_mtl.model.bodies.layers import head, named, parameters_in


class MixtureOfExperts(MultiTaskBody):
    """Experts of equal shape, each linear layers with ReLU and dropout, then gates and heads.

    Shared are the experts, `experts.<depth>.weight` [N, units, inputs] beside `.bias` [N, units]. A
    task's own parameters are `gates.<task>.weight` [N, I] and `heads.<task>.<place>.weight`.
    """

    def __init__(
        self,
        shape: BodyShape,
        experts: int,
        expert_hidden_sizes: Sequence[int],
        head_hidden_sizes: Sequence[int] = (),
    ) -> None:
        """Draw the initial parameters as torch draws those of a linear layer.

        Args:
            experts: N.
            expert_hidden_sizes: units of each layer of an expert.
            head_hidden_sizes: units of each hidden layer of a head.
        """
        super().__init__()
        self._task_names = shape.task_names
        widths = (shape.input_width, *expert_hidden_sizes)
        self.experts = Experts("experts", experts, widths)
        self.gates = nn.ModuleList(
            nn.Linear(shape.input_width, experts, bias=False) for _ in shape.task_names
        )
        self.heads = nn.ModuleList(head(widths[-1], head_hidden_sizes) for _ in shape.task_names)

    def dropout_sites(self) -> dict[str, int]:
        """The output of each depth, all experts side by side."""
        return self.experts.dropout_sites()

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        """The experts' outputs [B, N, H], and the inputs, which the gates read."""
        return self.experts(torch.cat(inputs, dim=1), masks), *inputs

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        """The head on the experts' outputs, weighed by the task's gate."""
        experts, *inputs = representation
        mixed = mixture(self.gates[task](torch.cat(inputs, dim=1)), experts)
        logits: Tensor = self.heads[task](mixed)
        return logits.squeeze(1)

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Every expert's layers."""
        return parameters_in(self.experts.layers())

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        """The task's gate and head."""
        name = self._task_names[task]
        return named(f"gates.{name}", self.gates[task].named_parameters()) | named(
            f"heads.{name}", self.heads[task].named_parameters()
        )

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        """Each depth with the weights and biases of all experts."""
        return {name: tuple(layer) for name, layer in self.experts.layers().items()}

    def input_parameters(self) -> frozenset[str]:
        """The first weights of the experts, and the gates."""
        gates = (f"gates.{task}.weight" for task in self._task_names)
        return frozenset({self.experts.input_weight(), *gates})
