"""How parameters move: the dense optimizer and the tables' own."""

from typing import Annotated, Literal

from pydantic import Field

from recsys_mtl.config.section import PositiveFloat, Section


class AdamConfig(Section):
    """Adam on the bottom and the heads."""

    kind: Literal["adam"] = "adam"
    """Discriminates the union."""
    learning_rate: PositiveFloat = 1e-3
    """After warm-up."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the mean of gradients."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the mean of squared gradients."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of the second moment."""


class SgdConfig(Section):
    """Plain gradient descent on the bottom and the heads."""

    kind: Literal["sgd"]
    """Discriminates the union."""
    learning_rate: PositiveFloat
    """After warm-up."""


class TableOptimizer(Section):
    """The optimizer fused into the tables' backward."""

    kind: Literal["rowwise_adagrad", "adagrad", "sgd"] = "rowwise_adagrad"
    """`rowwise_adagrad` keeps one number per row."""
    learning_rate: PositiveFloat = 0.02
    """After warm-up."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of Adagrad's accumulator."""


class Optimizer(Section):
    """How parameters move."""

    dense: Annotated[AdamConfig | SgdConfig, Field(discriminator="kind")] = AdamConfig()
    """Bottom and heads."""
    tables: TableOptimizer = TableOptimizer()
    """Embedding tables."""
