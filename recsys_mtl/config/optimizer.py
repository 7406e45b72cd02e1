"""How parameters move: the dense optimizer, the tables' own, and the schedule of their rates."""

from typing import Annotated, Literal

from pydantic import Field

from recsys_mtl.config.section import PositiveFloat, PositiveInt, Section


class _Moments(Section):
    """What Adam and AdamW share."""

    kind: str
    """Discriminates the union."""
    learning_rate: PositiveFloat = 1e-3
    """After warm-up, before the schedule."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the mean of gradients."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the mean of squared gradients."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of the second moment."""


class AdamConfig(_Moments):
    """Adam on the bottom and the heads."""

    kind: Literal["adam"] = "adam"
    """Discriminates the union."""


class AdamWConfig(_Moments):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) on the bottom and the heads."""

    kind: Literal["adamw"]
    """Discriminates the union."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    """Each step takes learning rate times this share off every parameter, biases too, as torch's
    AdamW does of itself. Embedding tables do not decay."""


class SgdConfig(Section):
    """Plain gradient descent on the bottom and the heads."""

    kind: Literal["sgd"]
    """Discriminates the union."""
    learning_rate: PositiveFloat
    """After warm-up, before the schedule."""


class TableOptimizer(Section):
    """The optimizer fused into the tables' backward."""

    kind: Literal["rowwise_adagrad", "adagrad", "sgd"] = "rowwise_adagrad"
    """`rowwise_adagrad` keeps one number per row."""
    learning_rate: PositiveFloat = 0.02
    """After warm-up, before the schedule."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of Adagrad's accumulator."""


class ConstantSchedule(Section):
    """Learning rates stay where warm-up has brought them."""

    kind: Literal["constant"] = "constant"
    """Discriminates the union."""


class _Decay(Section):
    """What all falling schedules share."""

    kind: str
    """Discriminates the union."""
    final_factor: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """What is left of the learning rates at the end."""
    decay_steps: PositiveInt | None = None
    """Steps from the end of warm-up to the final factor, which then stays; null for the rest of the
    run. A run that goes on with more epochs then follows the curve of the longer run, with higher
    rates than it ended with; where that is not wanted, give the number."""


class LinearSchedule(_Decay):
    """Learning rates fall by the same amount at every step."""

    kind: Literal["linear"]
    """Discriminates the union."""


class CosineSchedule(_Decay):
    """Learning rates fall along half a cosine, fastest in the middle (Loshchilov, Hutter 2017)."""

    kind: Literal["cosine"]
    """Discriminates the union."""


class ExponentialSchedule(_Decay):
    """Learning rates fall by the same share at every step."""

    kind: Literal["exponential"]
    """Discriminates the union."""
    final_factor: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.01
    """What is left of the learning rates at the end."""


DenseConfig = AdamConfig | AdamWConfig | SgdConfig
Schedule = ConstantSchedule | LinearSchedule | CosineSchedule | ExponentialSchedule


class Optimizer(Section):
    """How parameters move."""

    dense: Annotated[DenseConfig, Field(discriminator="kind")] = AdamConfig()
    """Bottom and heads."""
    tables: TableOptimizer = TableOptimizer()
    """Embedding tables."""
    schedule: Annotated[Schedule, Field(discriminator="kind")] = ConstantSchedule()
    """How the learning rates of both change after warm-up."""
