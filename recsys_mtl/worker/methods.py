"""From the configuration to a method: the only place that asks which one it is."""

from functools import partial
from types import ModuleType
from typing import Any, assert_never

from recsys_mtl.config import (
    DW,
    IMTLG,
    MGDA,
    CAGrad,
    GradNorm,
    GradOPS,
    GradOPSStatic,
    GradVac,
    PCGrad,
    PCGradDW,
    RunConfig,
    Uniform,
    UPGrad,
)
from recsys_mtl.gradients.methods import (
    cagrad,
    dw,
    gradnorm,
    gradops,
    gradops_static,
    gradvac,
    imtl_g,
    mgda,
    pcgrad,
    pcgrad_dw,
    uniform,
    upgrad,
)
from recsys_mtl.gradients.methods.contract import InitialState, Method, no_state
from recsys_mtl.gradients.operations import Operations


def method_of(config: RunConfig, operations: Operations) -> Method:
    """The configured method with its hyperparameters.

    Args:
        operations: of the backend that the step uses.
    """
    chosen = config.method
    match chosen:
        case Uniform():
            return _made(chosen.kind, uniform)
        case GradOPS():
            backend = operations.gradops_coefficients
            return _made(chosen.kind, gradops, alpha=chosen.alpha, coefficients=backend)
        case GradOPSStatic():
            weights = [chosen.weights[task] for task in config.task_names]
            return _made(chosen.kind, gradops_static, weights=weights)
        case DW():
            return _made(chosen.kind, dw, alpha=chosen.alpha)
        case PCGrad():
            return _made(chosen.kind, pcgrad)
        case PCGradDW():
            return _made(chosen.kind, pcgrad_dw, alpha=chosen.alpha)
        case GradVac():
            return _made(chosen.kind, gradvac, gradvac.initial_state, beta=chosen.beta)
        case MGDA():
            return _made(chosen.kind, mgda)
        case CAGrad():
            return _made(chosen.kind, cagrad, c=chosen.c)
        case IMTLG():
            return _made(chosen.kind, imtl_g)
        case UPGrad():
            return _made(chosen.kind, upgrad)
        case GradNorm():
            given = {"alpha": chosen.alpha, "learning_rate": chosen.learning_rate}
            return _made(chosen.kind, gradnorm, gradnorm.initial_state, **given)
        case _:
            assert_never(chosen)


def _made(
    kind: str, module: ModuleType, initial_state: InitialState = no_state, **hyperparameters: Any
) -> Method:
    """The method of one file of `gradients/methods/`."""
    weigh = partial(module.weigh_tasks, **hyperparameters)
    return Method(kind, module.NEEDS, weigh, initial_state, module.DIAGNOSTICS)
