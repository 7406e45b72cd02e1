"""What every method of weighing tasks is given, and what it gives back.

A method is a pure function: evidence and its own state go in, weights and the next state come out.
It works on the device and never waits for it. It knows no configuration, no workers, no parameters
and no schedule: the step decides when it is asked, and commits what it returns.

T tasks, L layers of the shared parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Need = Literal["losses", "gram", "layer_grams"]
"""What a method may read of a step. Without one of the last two, a step takes no product of two
tasks' gradients, and one backward serves all tasks."""

MethodState = Mapping[str, Tensor]
"""What a method remembers between steps, by name; a checkpoint holds it."""

InitialState = Callable[[int], MethodState]
"""From the number of tasks to the state before the first step, on the CPU."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of the tasks at one step, the same on every worker."""

    step: int
    """From 0."""
    seed: int
    """The run's: draws follow from (seed, step), so that a resumed run repeats them."""
    labelled: Tensor
    """[T] bool: the global batch has a label of the task. Without one the task's loss and gradient
    are 0, which says nothing about the task."""
    losses: Tensor | None = None
    """[T] float64: each task's mean loss over the global batch; None where no need names it."""
    gram: Tensor | None = None
    """[T, T] float64, finite: products of the tasks' gradients; None where no need names it. Where
    products were not finite, this one is zero and the step is skipped."""
    layer_grams: Tensor | None = None
    """[L, T, T] float64, finite: the same layer by layer, in the order of the body's
    `shared_layers`; None where no need names it."""


@dataclass(frozen=True, eq=False)
class TaskWeighting:
    """What a step multiplies the tasks' gradients by, and what is worth knowing about it."""

    coefficients: Tensor
    """[T] float64: the update of all parameters in the Gram is sum_i coefficients_i g_i. An entry
    may be negative where the method subtracts one gradient from another."""
    weights: Tensor
    """[T] float64, >= 0: shared parameters outside the Gram move by sum_i weights_i g_i."""
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)
    """By the name of a `Diagnostic` of the method: [T], or [] where it is one for all tasks."""


@dataclass(frozen=True)
class Diagnostic:
    """One quantity that a method reports: a column of the trace and a family of the exporter."""

    name: str
    """In snake case. Its columns are `<name>_<task>`, or `<name>` where it is one for all tasks."""
    help: str
    """One sentence, which dashboards show."""
    per_task: bool = True
    """One number for each task; otherwise one for the step."""
    flag: bool = False
    """True or false, and one for the step: the steps in which it is true are counted."""


def no_state(num_tasks: int) -> MethodState:
    """The state of a method that remembers nothing."""
    return {}


@dataclass(frozen=True)
class Method:
    """A method with its hyperparameters, as a step uses it."""

    name: str
    """As metrics and results show it."""
    needs: frozenset[Need]
    """What `weigh_tasks` reads of its evidence."""
    weigh_tasks: Callable[[Evidence, MethodState], tuple[TaskWeighting, MethodState]]
    """Pure: the state that it returns has the same names, shapes and dtypes as the one it gets."""
    initial_state: InitialState = no_state
    """The state before the first step for T tasks, on the CPU."""
    diagnostics: tuple[Diagnostic, ...] = ()
    """What `weigh_tasks` reports, each with a name of its own."""

    @property
    def compares_gradients(self) -> bool:
        """Whether a step has to take products of the tasks' gradients for it."""
        return bool(self.needs & {"gram", "layer_grams"})
