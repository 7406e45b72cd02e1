"""From the configuration to a method: the only place that asks which one it is."""

from functools import partial
from typing import assert_never

from recsys_mtl.config import GradNorm, GradOPS, PCGrad, Uniform
from recsys_mtl.config import Method as MethodConfig
from recsys_mtl.gradients.methods import gradnorm, gradops, pcgrad, uniform
from recsys_mtl.gradients.methods.contract import Method
from recsys_mtl.gradients.operations import Operations


def method_of(config: MethodConfig, operations: Operations) -> Method:
    """The configured method with its hyperparameters.

    Args:
        operations: of the backend that the step uses.
    """
    match config:
        case Uniform():
            return Method("uniform", uniform.NEEDS, uniform.weigh_tasks)
        case GradOPS():
            weigh = partial(
                gradops.weigh_tasks,
                alpha=config.alpha,
                coefficients=operations.gradops_coefficients,
            )
            return Method("gradops", gradops.NEEDS, weigh, diagnostics=gradops.DIAGNOSTICS)
        case PCGrad():
            return Method(
                "pcgrad", pcgrad.NEEDS, pcgrad.weigh_tasks, diagnostics=pcgrad.DIAGNOSTICS
            )
        case GradNorm():
            weigh = partial(
                gradnorm.weigh_tasks, alpha=config.alpha, learning_rate=config.learning_rate
            )
            return Method(
                "gradnorm",
                gradnorm.NEEDS,
                weigh,
                initial_state=gradnorm.initial_state,
                diagnostics=gradnorm.DIAGNOSTICS,
            )
        case _:
            assert_never(config)
