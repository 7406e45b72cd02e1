"""The network: its body, where the tasks part, and their heads."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from recsys_mtl.config.section import PositiveInt, Section


class SharedBottomBody(Section):
    """Layers that all tasks share, of the widths `model.bottom_hidden_sizes`."""

    kind: Literal["shared_bottom"] = "shared_bottom"
    """Discriminates the union."""


class MixtureOfExpertsBody(Section):
    """Experts that all tasks share, mixed for each task by a gate of its own (MMoE).

    Source: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
    Mixture-of-Experts", KDD 2018.
    """

    kind: Literal["mmoe"]
    """Discriminates the union."""
    experts: PositiveInt = 4
    """How many there are."""
    expert_hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 128)
    """Widths of each expert's layers, each followed by ReLU."""


class ProgressiveLayeredExtractionBody(Section):
    """Levels of experts, shared ones and each task's own, mixed level by level by gates (PLE).

    Source: Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL)
    Model for Personalized Recommendations", RecSys 2020.
    """

    kind: Literal["ple"]
    """Discriminates the union."""
    levels: PositiveInt = 2
    """How many there are; one level is the paper's CGC."""
    shared_experts: PositiveInt = 1
    """Experts per level that every task's gate weighs."""
    task_experts: PositiveInt = 1
    """Experts per level and task that this task's gate weighs, and below the last level the shared
    gate."""
    expert_hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 128)
    """Widths of the layers of each expert of each level, each followed by ReLU."""


Body = SharedBottomBody | MixtureOfExpertsBody | ProgressiveLayeredExtractionBody


class Model(Section):
    """The body and the heads."""

    body: Annotated[Body, Field(discriminator="kind")] = SharedBottomBody()
    """The network from embeddings and dense inputs to what the heads read."""
    bottom_hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (
        1024,
        512,
        256,
        128,
    )
    """Widths of the layers of the body shared_bottom, each followed by ReLU; the other bodies do
    not read it."""
    task_specific_layers: tuple[str, ...] = ()
    """Layers of the body shared_bottom of which every task has a copy of its own, as
    `bottom.layers.2` names the third; all tasks share the others."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a unit of a hidden layer of the body is dropped in training."""
    head_hidden_sizes: tuple[PositiveInt, ...] = ()
    """Widths of each task's own hidden layers before its logit; empty is a linear head."""

    @model_validator(mode="after")
    def _task_specific_layers_are_there(self) -> Self:
        place, names = "model.task_specific_layers", self.task_specific_layers
        if names and self.body.kind != "shared_bottom":
            raise ValueError(
                f"{place} names layers of the body shared_bottom, and model.body.kind is "
                f"{self.body.kind}; remove one of the two"
            )
        allowed = f"allowed: {', '.join(self.bottom_layers)}, each once"
        for position, name in enumerate(names):
            if name not in self.bottom_layers:
                raise ValueError(f"{place} names {name!r}, no layer of the bottom; {allowed}")
            if name in names[:position]:
                raise ValueError(f"{place} names {name} twice; {allowed}")
        return self

    @property
    def bottom_layers(self) -> tuple[str, ...]:
        """Names of the layers of the body shared_bottom, from the inputs up."""
        return tuple(f"bottom.layers.{depth}" for depth in range(len(self.bottom_hidden_sizes)))

    @property
    def shared_above_task_specific(self) -> tuple[str, ...]:
        """Names of the shared layers that stand above a task-specific one."""
        own = self.task_specific_layers
        depths = [depth for depth, layer in enumerate(self.bottom_layers) if layer in own]
        above = self.bottom_layers[min(depths) :] if depths else ()
        return tuple(layer for layer in above if layer not in own)
