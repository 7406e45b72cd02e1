"""How the tasks' gradients become one update: the methods and their hyperparameters."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from recsys_mtl.config.section import (
    FiniteFloat,
    Name,
    NonNegativeFloat,
    PositiveFloat,
    Section,
)


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


class GradOPSStatic(Section):
    """GradOPS's projected gradients under fixed weights. A label's `loss_weight` is the other kind
    of fixed weight: it multiplies the raw loss, for any method."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["gradops_static"]
    """Discriminates the union."""
    weights: dict[Name, NonNegativeFloat]
    """Task to the weight of its projected gradient: every task, with the number of tasks as their
    sum. Weights of 1 are GradOPS with alpha 0."""


class DW(Section):
    """GradOPS's weighting on the gradients as they are, with exp(R_i) for R_i (paper 4.5): it
    removes no conflict, and its weights depend on how long gradients are."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["dw"]
    """Discriminates the union."""
    alpha: FiniteFloat = -1.0
    """The trade-off, as in GradOPS; 0 is the plain sum."""


class PCGrad(Section):
    """Each gradient off those of the others that conflict with it, one after the other in an order
    drawn at every step; then their sum. With three tasks and more it may go against a task."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["pcgrad"]
    """Discriminates the union."""


class PCGradDW(Section):
    """The weighting of DW on the gradients that PCGrad projects."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["pcgrad_dw"]
    """Discriminates the union."""
    alpha: FiniteFloat = -1.0
    """The trade-off, as in GradOPS; 0 is PCGrad."""


class GradVac(Section):
    """Each gradient turned towards the others, up to the cosines that tasks usually have with each
    other; then their sum. It may go against a task."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["gradvac"]
    """Discriminates the union."""
    beta: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How far the cosine aimed at moves towards the one met, at every step; 0 is PCGrad."""


class MGDA(Section):
    """The shortest convex combination of the gradients; no update goes against a task. With
    `gradients.space: representation` it is MGDA-UB."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["mgda"]
    """Discriminates the union."""


class CAGrad(Section):
    """Near the mean of the gradients, the update from which the worst-off task gains most; for at
    most 8 tasks. It may go against a task."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["cagrad"]
    """Discriminates the union."""
    c: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """How far the update may be from the mean, relative to its norm; 0 is the mean."""


class IMTLG(Section):
    """The combination whose products with every task's direction are equal; no update goes against
    a task."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["imtl_g"]
    """Discriminates the union."""


class UPGrad(Section):
    """The mean of the gradients, each projected onto the cone of what opposes no task; no update
    goes against one."""

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})
    """As in `Uniform`."""

    kind: Literal["upgrad"]
    """Discriminates the union."""


class GradNorm(Section):
    """Weights, learnt beside the model, that bring the tasks' gradient norms together, larger for
    tasks that have learnt less. It removes no conflict between gradients."""

    needs: ClassVar[frozenset[str]] = frozenset({"losses", "layer_grams"})
    """As in `Uniform`."""

    kind: Literal["gradnorm"]
    """Discriminates the union."""
    alpha: NonNegativeFloat = 1.5
    """Asymmetry: 0 aims at equal gradient norms; the larger, the more a task that has learnt less
    than the others gets."""
    learning_rate: PositiveFloat = 0.025
    """Step size of the weights' own Adam; no warm-up."""


Method = Annotated[
    Uniform
    | GradOPS
    | GradOPSStatic
    | DW
    | PCGrad
    | PCGradDW
    | GradVac
    | MGDA
    | CAGrad
    | IMTLG
    | UPGrad
    | GradNorm,
    Field(discriminator="kind"),
]


def refuse_for_tasks(method: Method, tasks: Sequence[str]) -> None:
    """Raises ValueError where the method cannot weigh these tasks; says what to write instead."""
    match method:
        case GradOPSStatic():
            _refuse_weights(method.weights, tasks)
        case CAGrad() if len(tasks) > 8:
            raise ValueError(
                f"method.kind is cagrad, which weighs at most 8 tasks, and data.labels has "
                f"{len(tasks)}; choose another method, such as upgrad, or leave labels out"
            )


def _refuse_weights(weights: Mapping[str, float], tasks: Sequence[str]) -> None:
    unknown = [name for name in weights if name not in tasks]
    missing = [name for name in tasks if name not in weights]
    if unknown or missing:
        wrong = f"names {unknown[0]!r}, no task" if unknown else f"lacks {', '.join(missing)}"
        raise ValueError(
            f"method.weights {wrong}; give a weight to each of {', '.join(tasks)}, with the sum "
            f"{len(tasks)}"
        )
    total = sum(weights.values())
    if abs(total - len(tasks)) > 1e-6 * len(tasks):
        raise ValueError(
            f"method.weights sum to {total:.9g}, and with {len(tasks)} tasks they must sum to "
            f"{len(tasks)}; multiply each by {len(tasks)} / {total:.9g}"
        )
