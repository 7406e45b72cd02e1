"""What every method owes to the step that asks it, whichever it is."""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode

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
    Section,
    Uniform,
    UPGrad,
)
from recsys_mtl.gradients import gram_matrix
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
from recsys_mtl.gradients.methods.contract import Evidence, MethodState, TaskWeighting, no_state

TASKS, LAYERS = 4, 3
METHODS: dict[ModuleType, type[Section]] = {
    uniform: Uniform,
    gradops: GradOPS,
    gradops_static: GradOPSStatic,
    dw: DW,
    pcgrad: PCGrad,
    pcgrad_dw: PCGradDW,
    gradvac: GradVac,
    mgda: MGDA,
    cagrad: CAGrad,
    imtl_g: IMTLG,
    upgrad: UPGrad,
    gradnorm: GradNorm,
}
HYPERPARAMETERS: dict[ModuleType, dict[str, Any]] = {
    gradops: {"alpha": 0.5},
    gradops_static: {"weights": [1.5, 0.5, 0.75, 1.25]},
}
"""Those without a default."""
# Fake tensors have no values. Of the devices that are not there, torch places them on this one
# alone without a guard for it.
NOT_THERE = "lazy"
every_method = pytest.mark.parametrize(
    "method", METHODS, ids=lambda module: module.__name__.rpartition(".")[2]
)


class BlockingCopyError(AssertionError):
    """A copy waited for the device."""


WAITS = (BlockingCopyError, DataDependentOutputException)


class NoBlockingCopies(TorchFunctionMode):
    """Refuses what would wait for a device and fake tensors let pass: copies to it and from it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.cpu, Tensor.numpy) or (func is Tensor.to and "cpu" in args):
            raise BlockingCopyError("a copy to the host")
        if func is Tensor.to and not kwargs.get("non_blocking"):
            raise BlockingCopyError("a copy to the device that is waited for")
        if func in (torch.tensor, torch.as_tensor) and "device" in kwargs:
            raise BlockingCopyError("values of the host, copied and waited for")
        return func(*args, **kwargs)


def weigh(
    method: ModuleType, evidence: Evidence, state: MethodState
) -> tuple[TaskWeighting, MethodState]:
    weighting, after = method.weigh_tasks(evidence, state, **HYPERPARAMETERS.get(method, {}))
    return weighting, after


def initial_state(method: ModuleType) -> MethodState:
    state: MethodState = getattr(method, "initial_state", no_state)(TASKS)
    return state


def evidence_for(method: ModuleType, step: int = 0) -> Evidence:
    """What the method says it needs and nothing else; the last task has no labels."""
    labelled = torch.arange(TASKS) < TASKS - 1
    layers = [gram_matrix(torch.randn(TASKS, 5) * labelled[:, None]) for _ in range(LAYERS)]
    known = {
        "losses": torch.rand(TASKS).double() * labelled,
        "gram": torch.stack(layers).sum(dim=0),
        "layer_grams": torch.stack(layers),
    }
    return Evidence(step, 3, labelled, **{name: known[name] for name in method.NEEDS})


def without_values(method: ModuleType, mode: FakeTensorMode) -> tuple[Evidence, MethodState]:
    """Evidence and state on a device that is not there."""
    evidence, state = evidence_for(method), initial_state(method)
    with mode:

        def moved(values: Tensor) -> Tensor:
            return torch.empty(values.shape, dtype=values.dtype, device=NOT_THERE)

        needed = {name: moved(getattr(evidence, name)) for name in method.NEEDS}
        moved_state = {name: moved(values) for name, values in state.items()}
        return Evidence(0, 3, moved(evidence.labelled), **needed), moved_state


@every_method
def test_the_configuration_knows_what_a_method_needs(method: ModuleType) -> None:
    assert METHODS[method].needs == method.NEEDS  # type: ignore[attr-defined]


@every_method
def test_weights_and_state_have_the_contract_s_shapes(method: ModuleType) -> None:
    print("seed", torch.seed())
    state = initial_state(method)
    before = {name: values.clone() for name, values in state.items()}
    for step in range(3):
        weighting, after = weigh(method, evidence_for(method, step), state)
        for values in (weighting.coefficients, weighting.weights):
            assert (values.shape, values.dtype) == ((TASKS,), torch.float64)
            assert values.isfinite().all()
        assert (weighting.weights >= 0).all()
        assert after.keys() == state.keys()
        for name, values in after.items():
            assert (values.shape, values.dtype) == (state[name].shape, state[name].dtype)
            # The step decides whether the new state is taken: the old one must still be there.
            assert step > 0 or torch.equal(state[name], before[name])
        state = after


@every_method
def test_a_method_reports_what_it_says_it_reports(method: ModuleType) -> None:
    print("seed", torch.seed())
    weighting, _ = weigh(method, evidence_for(method), initial_state(method))
    diagnostics = {d.name: d for d in getattr(method, "DIAGNOSTICS", ())}
    assert len(diagnostics) == len(getattr(method, "DIAGNOSTICS", ()))
    assert weighting.diagnostics.keys() == diagnostics.keys()
    for name, values in weighting.diagnostics.items():
        assert values.shape == ((TASKS,) if diagnostics[name].per_task else ()), name
        assert values.dtype == (torch.bool if diagnostics[name].flag else torch.float64), name


@every_method
def test_a_method_never_waits_for_the_device(method: ModuleType) -> None:
    mode = FakeTensorMode()
    evidence, state = without_values(method, mode)
    with mode, NoBlockingCopies():
        weighting, after = weigh(method, evidence, state)
    for values in (weighting.coefficients, weighting.weights, *after.values()):
        assert values.device.type == NOT_THERE


@pytest.mark.parametrize(
    "fault",
    [
        lambda gram: gram.sum().item(),
        lambda gram: bool(gram.isfinite().all()),
        lambda gram: gram.tolist(),
        lambda gram: gram.cpu(),
        lambda gram: gram.to("cpu", non_blocking=True),
        lambda gram: torch.ones(3).to(gram.device),
        lambda gram: torch.tensor([1, 2], device=gram.device),
    ],
    ids=["item", "bool", "tolist", "cpu", "to the host", "blocking", "values of the host"],
)
def test_a_planted_wait_for_the_device_is_found(fault: Callable[[Tensor], object]) -> None:
    def planted(gram: Tensor, *, alpha: float) -> gradops.GradOPSCoefficients:
        fault(gram)
        return gradops.gradops_coefficients(gram, alpha=alpha)

    mode = FakeTensorMode()
    evidence, state = without_values(gradops, mode)
    with mode, NoBlockingCopies(), pytest.raises(WAITS):
        gradops.weigh_tasks(evidence, state, alpha=0.5, coefficients=planted)


def test_gradops_gives_what_its_mathematics_gives() -> None:
    print("seed", torch.seed())
    evidence = evidence_for(gradops)
    assert evidence.gram is not None
    expected = gradops.gradops_coefficients(evidence.gram, alpha=-2.0)
    weighting, _ = gradops.weigh_tasks(evidence, {}, alpha=-2.0)
    assert torch.equal(weighting.coefficients, expected.coefficients)
    assert torch.equal(weighting.weights, expected.weights)
    assert torch.equal(weighting.diagnostics["contribution"], expected.contributions)
    assert torch.equal(weighting.diagnostics["share_kept"], expected.shares_kept)
    assert not weighting.diagnostics["min_norm"]


def test_gradops_says_when_it_fell_back_to_the_min_norm_point() -> None:
    labelled = torch.ones(2, dtype=torch.bool)
    gram = gram_matrix(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    weighting, _ = gradops.weigh_tasks(Evidence(0, 0, labelled, gram=gram), {}, alpha=0.0)
    assert weighting.diagnostics["min_norm"]


def test_the_uniform_sum_counts_every_task_once() -> None:
    weighting, _ = uniform.weigh_tasks(evidence_for(uniform), {})
    assert weighting.coefficients.tolist() == weighting.weights.tolist() == [1.0] * TASKS
