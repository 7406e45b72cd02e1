"""What a body is: the network from pooled embeddings and dense inputs to one logit per task.

Tasks part at the representation. Below it every task needs the same forward, and one backward per
task where their gradients are compared; above it each task has a forward of its own. Methods,
tables, checkpoints and the step know bodies by this contract alone.

B batch rows, E columns of all pooled embeddings, F dense inputs, T tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from recsys_mtl.model.trunk import AutogradTrunk, Trunk


class BodyInputs(NamedTuple):
    """What a body reads."""

    pooled: Tensor
    """[B, E] pooled embeddings, features in the configuration's order; no columns for a model
    without tables. Its gradient goes to the tables."""
    dense: Tensor
    """[B, F]"""


DropoutMasks = Mapping[str, Tensor]
"""By site, [B, width] of 0 or 1 / (1 - dropout); empty in evaluation and without dropout."""


@dataclass(frozen=True)
class BodyShape:
    """What a body is built for."""

    pooled_columns: int
    """E"""
    dense_columns: int
    """F"""
    task_names: tuple[str, ...]
    """Names of the T tasks, in the order of every [T] tensor."""

    @property
    def input_width(self) -> int:
        """Columns of pooled embeddings and dense inputs together."""
        return self.pooled_columns + self.dense_columns


class MultiTaskBody(nn.Module, ABC):
    """A network for T tasks. A subclass says what is shared; autograd does the rest.

    Names of parameters are the checkpoint's: two bodies that give a parameter the same name and
    shape can load it from each other. A name is dotted, such as `bottom.layers.0.weight`.
    """

    def dropout_sites(self) -> dict[str, int]:
        """Each place where units are dropped, and how many there are; in the order of drawing."""
        return {}

    @abstractmethod
    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        """The tensors [B, ...] at which tasks part: all that `logits` reads of the inputs.

        An input itself may be among them, where something above reads it.
        """

    @abstractmethod
    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        """[B] One task's logits.

        Args:
            representation: as `representation` returned it, cut off from its graph.
            task: its place among the T tasks.
            masks: a site above the representation has one mask for all tasks.
        """

    @abstractmethod
    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """By name, every parameter that more than one task's loss depends on."""

    @abstractmethod
    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        """By name, the parameters of one task's own; they are used in `logits` alone."""

    @abstractmethod
    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        """Layer to the names of its parameters: each shared parameter is in one layer."""

    def input_parameters(self) -> frozenset[str] | None:
        """Names of the parameters [..., E + F], whose last dimension is the inputs' columns.

        A warm start from a run with other features takes these over column by column. None where a
        body does not say: then such a warm start is refused.
        """
        return None

    def trunk(self, inputs: BodyInputs, masks: DropoutMasks) -> Trunk:
        """The forward up to the representation, with what its backwards need.

        A body may replace it where it knows a cheaper backward than autograd's; the gradients are
        the same.
        """
        return AutogradTrunk(
            self.representation(inputs, masks), inputs.pooled, self.shared_parameters()
        )


def drop_out(hidden: Tensor, masks: DropoutMasks, site: str) -> Tensor:
    """[B, width] `hidden` with the units of a site dropped, where units are dropped at all."""
    return hidden * masks[site] if masks else hidden
