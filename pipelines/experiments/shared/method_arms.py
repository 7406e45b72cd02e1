"""The methods that the experiments compare, as arms of a sweep, named as in the papers' tables."""

from collections.abc import Mapping, Sequence

from recsys_mtl.config import UserError
from recsys_mtl.driver.sweep import Arm


def gradops(alpha: float) -> Arm:
    """GradOPS with one alpha; `gradops_-3` for -3."""
    return Arm(f"gradops_{alpha:g}", (f"method={{kind: gradops, alpha: {alpha:g}}}",))


def loss_weights(weights: Mapping[str, float], columns: Mapping[str, str]) -> tuple[str, ...]:
    """The settings of a run whose plain sum of losses has fixed weights.

    Args:
        weights: by task.
        columns: of each task's label.
    """
    return (
        "method={kind: uniform}",
        *(
            f"data.labels.{task}={{column: {columns[task]}, loss_weight: {weight:g}}}"
            for task, weight in weights.items()
        ),
    )


SINGLE_TASK = Arm("single_task", (), single_task=True)
UNIFORM = Arm("uniform", ("method={kind: uniform}",))
GRADNORM = Arm("gradnorm", ("method={kind: gradnorm, alpha: 1.5}",))
PCGRAD = Arm("pcgrad", ("method={kind: pcgrad}",))
GRADVAC = Arm("gradvac", ("method={kind: gradvac}",))
MGDA = Arm("mgda", ("method={kind: mgda}",))
MGDA_UB = Arm("mgda_ub", ("method={kind: mgda}", "gradients.space=representation"))
CAGRAD = Arm("cagrad", ("method={kind: cagrad, c: 0.5}",))
IMTL_G = Arm("imtl_g", ("method={kind: imtl_g}",))
UPGRAD = Arm("upgrad", ("method={kind: upgrad}",))


def table_1() -> list[Arm]:
    """The methods of the GradOPS paper's Table 1, without RotoGrad, and UPGrad, which is newer.

    The hyperparameters are those that the paper took: GradNorm's alpha 1.5, CAGrad's c 0.5.
    """
    return [
        *(SINGLE_TASK, UNIFORM, GRADNORM, PCGRAD, GRADVAC, MGDA_UB, CAGRAD, IMTL_G, UPGRAD),
        *(gradops(alpha) for alpha in (0, 2, -1, -2, -3)),
    ]


def table_3() -> list[Arm]:
    """The methods of its Table 3, and those of Table 1 that it lacks."""
    return [
        *(SINGLE_TASK, UNIFORM, GRADNORM, PCGRAD, GRADVAC, MGDA_UB, CAGRAD, IMTL_G, UPGRAD),
        *(gradops(alpha) for alpha in (0, 1, 2, -0.5, -1, -2)),
    ]


def table_4() -> list[Arm]:
    """The methods of its Table 4, with uniform and GradOPS at the same alphas beside them."""
    alphas = (-1, -2, -3)
    return [
        UNIFORM,
        *(Arm(f"dw_{a}", (f"method={{kind: dw, alpha: {a}}}",)) for a in alphas),
        *(Arm(f"pcgrad_dw_{a}", (f"method={{kind: pcgrad_dw, alpha: {a}}}",)) for a in alphas),
        *(gradops(alpha) for alpha in alphas),
    ]


def chosen(arms: Sequence[Arm], names: Sequence[str] | None) -> list[Arm]:
    """The arms of these names, in the order of `arms`; all of them where none is named.

    Raises:
        UserError: a name is none of theirs.
    """
    known = [arm.name for arm in arms]
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise UserError(f"--arms names {', '.join(unknown)}; the arms are: {', '.join(known)}")
    return [arm for arm in arms if not names or arm.name in names]
