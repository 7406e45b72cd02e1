"""How the tasks' gradients become one update: the methods and their hyperparameters."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from recsys_mtl.config.section import FiniteFloat, PositiveFloat, Section


class Uniform(Section):
    """The plain sum of the tasks' losses: one backward, no gradients compared."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """What the method reads of a step: `losses`, `gram`, `layer_grams`."""

    kind: Literal["uniform"]
    """Discriminates the union."""


class GradOPS(Section):
    """Each conflicting gradient off the span of the others, then reweighted by r_i^alpha."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["gradops"]
    """Discriminates the union."""
    alpha: FiniteFloat = 0.0
    """The trade-off: above 0 favours tasks that dominate the update, below 0 the dominated."""


class PCGrad(Section):
    """Each gradient off those of the others that conflict with it, one after the other in an order
    drawn at every step; then their sum. With three tasks and more it may go against a task."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["pcgrad"]
    """Discriminates the union."""


class GradNorm(Section):
    """Weights, learnt beside the model, that bring the tasks' gradient norms together, larger for
    tasks that have learnt less. It removes no conflict between gradients."""

    needs: ClassVar[frozenset[str]] = frozenset({"losses", "layer_grams"})
    """As in `Uniform`."""

    kind: Literal["gradnorm"]
    """Discriminates the union."""
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.5
    """Asymmetry: 0 aims at equal gradient norms; the larger, the more a task that has learnt less
    than the others gets."""
    learning_rate: PositiveFloat = 0.025
    """Step size of the weights' own Adam; no warm-up."""


Method = Annotated[Uniform | GradOPS | PCGrad | GradNorm, Field(discriminator="kind")]
