"""Where and how often the tasks' gradients are compared, by whichever method compares them."""

from typing import Literal, Self

from pydantic import model_validator

from recsys_mtl.config.section import PositiveInt, Section


class Gradients(Section):
    """Which gradients a method is given. A method that compares none, such as uniform, reads
    nothing of this.

    A method keeps its promise for the gradients it is given, and only at steps that compute its
    coefficients from them. gradops, gradops_static, mgda, imtl_g and upgrad promise that no update
    goes against a task.
    """

    scope: Literal["all", "bottom"] = "all"
    """Which shared parameters are compared. `all`: the body's and the embedding tables, exactly,
    for one more exchange of table gradients per task. `bottom`: the body's alone. The tables take
    part in no product then and move by the method's non-negative weights, sum_i w_i g_i, for which
    it promises nothing: under GradOPS, too, their update may go against a task."""
    space: Literal["parameters", "representation"] = "parameters"
    """Where gradients are compared. `representation`: at the body's output, where the tasks part,
    for one backward through body and tables instead of one per task. No product of parameter
    gradients is known then, so the method promises nothing for any parameter, and
    `audit_interval_steps` measures how often an update would have gone against a task."""
    refresh_interval_steps: PositiveInt = 1
    """The coefficients are computed anew at every K-th step. Above 1 the steps between use the old
    ones, for one backward, and the method promises nothing for their updates. Each refresh measures
    whether the old coefficients would by then have gone against a task. A task without a label in
    the refresh's batch keeps its coefficient of the refresh before."""
    audit_interval_steps: PositiveInt = 100
    """With `space: representation` alone: every so many steps the parameters' gradients are
    computed task by task, too, only to measure whether the update goes against one."""
    backend: Literal["auto", "torch", "triton"] = "auto"
    """What computes products, combinations and GradOPS's coefficients. `auto` is triton on CUDA,
    torch elsewhere. One that is named is taken or refused."""

    @model_validator(mode="after")
    def _one_saving_at_a_time(self) -> Self:
        if self.space == "representation" and self.refresh_interval_steps > 1:
            raise ValueError(
                f"refresh_interval_steps is {self.refresh_interval_steps} and space is "
                "representation, whose coefficients cost next to nothing at every step; remove one "
                "of the two"
            )
        return self
