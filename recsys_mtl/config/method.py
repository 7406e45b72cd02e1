"""How the tasks' gradients become one update."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from recsys_mtl.config.section import FiniteFloat, PositiveInt, Section


class Uniform(Section):
    """The plain sum of the tasks' losses: one backward, no deconfliction."""

    kind: Literal["uniform"]
    """Discriminates the union."""


class GradOPS(Section):
    """Each conflicting gradient off the span of the others, then reweighted by r_i^alpha."""

    kind: Literal["gradops"]
    """Discriminates the union."""
    alpha: FiniteFloat = 0.0
    """The trade-off: above 0 favours tasks that dominate the update, below 0 the dominated."""
    scope: Literal["all", "bottom"] = "all"
    """Which shared parameters the guarantee covers. `all`: the bottom and the embedding tables,
    exactly, for one more exchange of table gradients a task. `bottom`: the tables take part in no
    product and move by the non-negative weights, sum_i w_i g_i, which may go against a task."""
    space: Literal["parameters", "representation"] = "parameters"
    """Where gradients are compared. `representation`: at the bottom's output, for one backward
    through bottom and tables instead of one a task. No product of parameter gradients is known
    then: the guarantee is given up for every parameter, and `audit_interval_steps` measures how
    often an update would have gone against a task."""
    refresh_interval_steps: PositiveInt = 1
    """The coefficients are computed anew at every K-th step. Above 1 the steps between use the old
    ones, for one backward: their updates carry no guarantee. Each refresh measures whether the old
    coefficients would by then have gone against a task. A task without a label in the refresh's
    batch keeps its coefficient of the refresh before."""
    audit_interval_steps: PositiveInt = 100
    """Of `space: representation` alone: every so many steps the parameters' gradients are computed
    task by task, too, only to measure whether the update goes against one."""
    backend: Literal["auto", "torch", "triton"] = "auto"
    """`auto` is triton on CUDA, torch elsewhere. One that is named is taken or refused."""

    @model_validator(mode="after")
    def _one_saving_at_a_time(self) -> Self:
        if self.space == "representation" and self.refresh_interval_steps > 1:
            raise ValueError(
                f"refresh_interval_steps is {self.refresh_interval_steps} and space is "
                "representation, whose coefficients cost next to nothing at every step; remove one "
                "of the two"
            )
        return self


Method = Annotated[Uniform | GradOPS, Field(discriminator="kind")]
