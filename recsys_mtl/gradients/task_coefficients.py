"""Any method that weighs tasks by their Gram matrix, in one call, for anyone's training loop."""

# T tasks

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, assert_never, get_args

import torch
from torch import Tensor

from recsys_mtl.gradients.gram import check_gram
from recsys_mtl.gradients.methods.cagrad import cagrad_coefficients
from recsys_mtl.gradients.methods.dw import dw_coefficients
from recsys_mtl.gradients.methods.gradops import gradops_coefficients
from recsys_mtl.gradients.methods.gradops_static import gradops_static_coefficients
from recsys_mtl.gradients.methods.gradvac import gradvac_coefficients
from recsys_mtl.gradients.methods.imtl_g import imtl_g_coefficients
from recsys_mtl.gradients.methods.mgda import mgda_coefficients
from recsys_mtl.gradients.methods.pcgrad import draw_order, pcgrad_coefficients
from recsys_mtl.gradients.methods.pcgrad_dw import pcgrad_dw_coefficients
from recsys_mtl.gradients.methods.upgrad import upgrad_coefficients

GramMethod = Literal[
    "gradops",
    "gradops_static",
    "dw",
    "pcgrad",
    "pcgrad_dw",
    "gradvac",
    "mgda",
    "cagrad",
    "imtl_g",
    "upgrad",
]
"""As `method.kind` in a run's YAML; `uniform` and `gradnorm` read no Gram."""


def task_coefficients(
    kind: GramMethod, gram: Tensor, *, seed: int = 0, **hyperparameters: Any
) -> Tensor:
    """What a method multiplies each task's gradient by: the update is sum_i c_i g_i.

        gram = gram_matrix(task_gradients)  # [T, P] -> [T, T]
        coefficients = task_coefficients("cagrad", gram, c=0.4)
        update = combine_gradients(task_gradients, coefficients)

    Gram [[1, 0], [0, 3]] with "mgda" gives [0.75, 0.25]. Checking that the Gram is finite waits for
    the device; the functions in `gradients/methods/` never do.

    A call remembers nothing. So `gradvac` is at its first step, with all targets 0, unless it is
    given `targets` [T, T]; `gradvac_coefficients` returns the next ones.

    Args:
        kind: the method, spelt as in a run's YAML.
        gram: [T, T] float64, as `gram_matrix` returns it. A zero row is a task left out.
        seed: of the order that pcgrad, pcgrad_dw and gradvac draw: one of its own for every step.
        hyperparameters: the method's own, such as `alpha`, `c`, `beta` or `weights` (one per task,
            in the order of the Gram), with the defaults of its function; `alpha` of gradops has
            none, nor have `weights` of gradops_static; and `zero_sine_squared`.

    Returns:
        [T] float64. `gradients/methods/README.md` says what they sum to for each method.

    Raises:
        TypeError: a Gram that is not float64, or a hyperparameter that the method does not have or
            lacks.
        ValueError: an unknown kind, a Gram that is not square or not finite, or a hyperparameter
            out of range.
    """
    if kind not in get_args(GramMethod):
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(get_args(GramMethod))}.")
    check_gram(gram)
    if not bool(gram.isfinite().all()):
        raise ValueError("gram has an infinite or NaN entry; leave this step out.")
    function, given = _function(kind, gram, seed)
    _check_names(kind, function, hyperparameters)
    found = function(gram, **given | hyperparameters)
    coefficients: Tensor = found if isinstance(found, Tensor) else found.coefficients
    return coefficients


def _function(
    kind: GramMethod, gram: Tensor, seed: int
) -> tuple[Callable[..., Any], dict[str, Tensor]]:
    """The method's function of the Gram, and what it is given beside hyperparameters."""
    match kind:
        case "gradops":
            return gradops_coefficients, {}
        case "gradops_static":
            return gradops_static_coefficients, {}
        case "dw":
            return dw_coefficients, {}
        case "pcgrad":
            return pcgrad_coefficients, {"order": _order(gram, seed)}
        case "pcgrad_dw":
            return pcgrad_dw_coefficients, {"order": _order(gram, seed)}
        case "gradvac":
            zeros = torch.zeros_like(gram)
            return gradvac_coefficients, {"order": _order(gram, seed), "targets": zeros}
        case "mgda":
            return mgda_coefficients, {}
        case "cagrad":
            return cagrad_coefficients, {}
        case "imtl_g":
            return imtl_g_coefficients, {}
        case "upgrad":
            return upgrad_coefficients, {}
        case _:
            assert_never(kind)


def _order(gram: Tensor, seed: int) -> Tensor:
    return draw_order(len(gram), seed, step=0).to(gram.device, non_blocking=True)


def _check_names(kind: str, function: Callable[..., Any], given: Mapping[str, object]) -> None:
    """Raises TypeError for a hyperparameter that the method does not have, or lacks."""
    known = inspect.signature(function).parameters
    allowed = [name for name in known if name not in ("gram", "order")]
    for name in given:
        if name not in allowed:
            raise TypeError(
                f"{kind} has no hyperparameter {name!r}; it has {', '.join(allowed) or 'none'}."
            )
    for name in allowed:
        if known[name].default is inspect.Parameter.empty and name not in (*given, "targets"):
            raise TypeError(f"{kind} needs the hyperparameter {name!r}, which has no default.")
