"""Training steps on tensors that have no values, on a device that is not there.

    python tests/unit/steps_without_values.py

Prints a JSON object: case to what it ended with, `none` or the name of an exception. Torch's fake
tensors refuse what needs a value on the host (`item`, `tolist`, `bool`, `unique`); they let a copy
to the host pass, and the solvers that check their result there: `HostWatch` refuses those. A CPU
build of torch cannot index a fake tensor on `cuda`, for want of a device guard: the device here is
one that torch lets Python define.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from recsys_mtl.model.shared_bottom import build_dense_model
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from recsys_mtl.config import RunConfig
from recsys_mtl.data.batch import ClickBatch, IdBags
from recsys_mtl.data.features import REJECT_REASONS
from recsys_mtl.data.plan import Plan
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.embedding_gradients import OwnedFeature, OwnedShards
from recsys_mtl.distributed.sharding import Lookup, OwnerGradient, ShardedTables
from recsys_mtl.distributed.torchrec_inputs import keyed_jagged
from recsys_mtl.gradients.operations import operations_of
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.model.flat_memory import FlatParameters
from recsys_mtl.train import train_step
from recsys_mtl.worker import shared_update as shared_update_module
from recsys_mtl.worker.optimizers import DenseOptimizer
from recsys_mtl.worker.state import Worker

BATCH, TASKS = 6, 3
METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "all": {},
    "uniform": {"method": {"kind": "uniform"}},
    "bottom": {"gradients": {"scope": "bottom"}},
    "held": {"gradients": {"refresh_interval_steps": 2}},
    "held, bottom": {"gradients": {"refresh_interval_steps": 2, "scope": "bottom"}},
    "representation": {"gradients": {"space": "representation", "audit_interval_steps": 1}},
}
FAULTS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda gram: gram.sum().item(),
    "tolist": lambda gram: gram.tolist(),
    "bool": lambda gram: bool(gram.isfinite().all()),
    "cpu": lambda gram: gram.cpu(),
    "to": lambda gram: gram.to("cpu"),
    "copy_": lambda gram: torch.empty(gram.shape).copy_(gram),
    "numpy": lambda gram: gram.numpy(),
    "unique": lambda gram: torch.unique(gram),
    "solve": lambda gram: torch.linalg.solve(gram, gram),
}
CHECKED_SOLVERS = ("solve", "cholesky", "inv", "lu_factor", "ldl_factor", "lstsq", "eigh", "svd")


class HostAccessError(AssertionError):
    """The step waited for the device."""


class HostWatch(TorchFunctionMode):
    """Refuses what would wait for the device and fake tensors let pass."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        solvers = [getattr(torch.linalg, name) for name in CHECKED_SOLVERS]
        if func in (Tensor.cpu, Tensor.numpy, *solvers):
            raise HostAccessError(f"{func} waits for the device")
        if func is Tensor.to and _goes_to_host(args[0], [*args[1:], *kwargs.values()]):
            raise HostAccessError("a copy to the host waits for the device")
        if func is Tensor.copy_ and _goes_to_host(args[1], [args[0].device]):
            raise HostAccessError("a copy to the host waits for the device")
        return func(*args, **kwargs)


def _goes_to_host(tensor: Tensor, targets: Sequence[object]) -> bool:
    devices = [torch.device(t) for t in targets if isinstance(t, str | torch.device)]
    return tensor.device.type != "cpu" and any(d.type == "cpu" for d in devices)


def config_of(sections: dict[str, dict[str, Any]], **training: Any) -> RunConfig:
    tree = {
        "run": {"name": "fake"},
        "data": {
            "train": "log",
            "eval": "log",
            "lanes": 1,
            "features": {
                "user": {"kind": "id", "rows": 9, "embedding_dim": 8},
                "items": {"kind": "id", "rows": 9, "embedding_dim": 4},
            },
            "labels": {"purchase": "purchase", "cart": "cart", "wish": "wish"},
        },
        "model": {"bottom_hidden_sizes": [16, 8]},
        "method": sections.get("method", {"kind": "gradops"}),
        "gradients": {"backend": "torch"} | sections.get("gradients", {}),
        "training": {"global_batch_size": BATCH, "log_interval_steps": 1} | training,
    }
    return RunConfig.model_validate(tree, strict=False)


class FakeTables(ShardedTables):
    """Tables of one worker, with the cuts of the real ones but without TorchRec's kernels."""

    def __init__(self, device: torch.device) -> None:
        self._weight = torch.empty(20, 12, device=device, requires_grad=True)
        self._owned = [OwnedShards([OwnedFeature(0, 8), OwnedFeature(10, 4)], device)]
        self._device = device

    def look_up(self, ids: IdBags, learning_rate_factor: float) -> Lookup:
        output = self._weight[:BATCH] * 1.0
        leaf = output.detach().requires_grad_()
        return Lookup(leaf * 1.0, [output], [leaf], [keyed_jagged(ids)], {"table_gradients": 0})

    def to_owners(self, lookup: Lookup, gradient: Tensor) -> OwnerGradient:
        return list(torch.autograd.grad(lookup.pooled, lookup.leaves, gradient, retain_graph=True))


def worker_of(config: RunConfig, device: torch.device) -> Worker:
    bottom, heads = build_dense_model(config.model, 12, TASKS, 0)
    move(bottom, device)
    move(heads, device)
    shared, private = FlatParameters(bottom.parameters()), FlatParameters(heads.parameters())
    operations = operations_of("torch")
    return Worker(
        config=config,
        context=WorkerContext(0, 1, 1, device),
        plan=Plan((BATCH,), 1, BATCH, 1, 0),
        tables=FakeTables(device),
        bottom=bottom,
        heads=heads,
        shared=shared,
        private=private,
        shared_gradients=shared.task_gradients(TASKS),
        private_gradient=torch.zeros_like(private.vector),
        held=torch.ones(2, TASKS, dtype=torch.float64, device=device),
        operations=operations,
        optimizer=DenseOptimizer(config.optimizer.dense, shared.vector, private.vector, operations),
    )


def move(module: torch.nn.Module, device: torch.device) -> None:
    """Module.to needs a device that is there."""
    for name, parameter in list(module.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        moved = torch.nn.Parameter(torch.empty_like(parameter, device=device))
        setattr(module.get_submodule(owner), leaf, moved)


def batch_on(device: torch.device, step: int) -> ClickBatch:
    lengths = torch.ones(2 * BATCH, dtype=torch.long, device=device)
    return ClickBatch(
        step=step,
        ids=IdBags(
            names=("user", "items"),
            values=torch.empty(2 * BATCH, dtype=torch.long, device=device),
            lengths=lengths,
            ids_per_feature=(BATCH, BATCH),
        ),
        dense=torch.empty(BATCH, 0, device=device),
        labels=torch.empty(BATCH, TASKS, device=device),
        label_mask=torch.empty(BATCH, TASKS, dtype=torch.bool, device=device),
        counts=torch.empty(1 + len(REJECT_REASONS), device=device),
        rows=BATCH,
        nulls=np.zeros(5, dtype=np.int64),
    )


def take_steps(device: torch.device, sections: dict[str, dict[str, Any]], **training: Any) -> str:
    """What an even and an odd step end with."""
    try:
        worker = worker_of(config_of(sections, **training), device)
        for step in (2, 3):
            train_step(worker, batch_on(device, step), PhaseClock())
    except Exception as error:
        return type(error).__name__
    return "none"


def take_spoilt_step(device: torch.device, fault: Callable[[Tensor], object]) -> str:
    """What a step ends with that looks at the products in this way."""
    decide = shared_update_module.decide

    def spoilt(method: Any, gram: Tensor, operations: Any) -> Any:
        fault(gram)
        return decide(method, gram, operations)

    shared_update_module.decide = spoilt
    try:
        return take_steps(device, {})
    finally:
        shared_update_module.decide = decide


def main() -> None:
    _setup_privateuseone_for_python_backend("without_values")
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    device = torch.device("without_values")
    with FakeTensorMode(allow_non_fake_inputs=False), HostWatch():
        ends = {
            f"{name}, clip {clip}": take_steps(device, sections, gradient_clip_norm=clip)
            for name, sections in METHODS.items()
            for clip in (None, 1.0)
        }
        ends |= {f"planted {n}": take_spoilt_step(device, f) for n, f in FAULTS.items()}
    json.dump(ends, sys.stdout)


if __name__ == "__main__":
    main()
