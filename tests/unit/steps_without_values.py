"""Training steps on tensors that have no values, on a device that is not there.

    python -m tests.unit.steps_without_values

Prints a JSON object: case to what it ended with, `none` or the name of an exception. Torch's fake
tensors refuse what needs a value on the host (`item`, `tolist`, `bool`, `unique`); they let copies
between host and device pass, and the solvers that check their result on the host: `HostWatch`
refuses those. A CPU build of torch cannot index a fake tensor on `cuda`, for want of a device
guard: the device here is one that torch lets Python define.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from recsys_mtl.config import RunConfig
from recsys_mtl.data.batch import ClickBatch, IdBags
from recsys_mtl.data.features import REJECT_REASONS
from recsys_mtl.data.plan import Plan
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.embedding_gradients import OwnedFeature, OwnedShards
from recsys_mtl.distributed.sharding import Lookup, ShardedTables, ShardOutputGradients
from recsys_mtl.distributed.torchrec_inputs import keyed_jagged
from recsys_mtl.gradients.methods.contract import Evidence, MethodState, TaskWeighting
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.model.bodies.build import body_factory
from recsys_mtl.model.bodies.contract import BodyShape, MultiTaskBody
from recsys_mtl.train import train_step
from recsys_mtl.worker import build as build_module
from recsys_mtl.worker.counts import count_globally
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.weighing import TaskWeigher

BATCH, TASKS = 6, 3
Sections = dict[str, dict[str, Any]]
MODELS: dict[str, dict[str, Any]] = {
    "bottom": {"bottom_hidden_sizes": [16, 8]},
    "own layer": {
        "bottom_hidden_sizes": [16, 8, 8],
        "task_specific_layers": ["bottom.layers.1"],
    },
    "experts": {"body": {"kind": "mmoe", "experts": 2, "expert_hidden_sizes": [16, 8]}},
}
MODES: dict[str, dict[str, Any]] = {
    "exact": {},
    "scope bottom": {"scope": "bottom"},
    "held": {"refresh_interval_steps": 2},
    "held, scope bottom": {"refresh_interval_steps": 2, "scope": "bottom"},
    "representation": {"space": "representation", "audit_interval_steps": 2},
}
METHODS = ("gradops", "gradvac", "gradnorm")
FAULTS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda gram: gram.sum().item(),
    "tolist": lambda gram: gram.tolist(),
    "bool": lambda gram: bool(gram.isfinite().all()),
    "cpu": lambda gram: gram.cpu(),
    "to": lambda gram: gram.to("cpu"),
    "copy_": lambda gram: torch.empty(gram.shape).copy_(gram),
    "to the host at once": lambda gram: gram.to("cpu", non_blocking=True),
    "to the device": lambda gram: torch.ones(3).to(gram.device),
    "copy_ to the device": lambda gram: gram.clone().copy_(torch.ones(3, 3)),
    "tensor": lambda gram: torch.tensor([1.0], device=gram.device),
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
        waits = not kwargs.get("non_blocking", False)
        if func is Tensor.to and _crosses(args[0].device, [*args[1:], *kwargs.values()], waits):
            raise HostAccessError("a copy between host and device waits for the device")
        if func is Tensor.copy_ and _crosses(args[1].device, [args[0].device], waits):
            raise HostAccessError("a copy between host and device waits for the device")
        if func is torch.tensor and _crosses(torch.device("cpu"), [*kwargs.values()], waits):
            raise HostAccessError("numbers of the host, put on the device, wait for it")
        return func(*args, **kwargs)


def _crosses(source: torch.device, targets: Sequence[object], waits: bool) -> bool:
    """Whether a copy goes to the host, or from it in a way that waits for all that came before."""
    devices = [torch.device(t) for t in targets if isinstance(t, str | torch.device)]
    return any(device.type != source.type and (device.type == "cpu" or waits) for device in devices)


def cases() -> Iterator[tuple[str, Sections]]:
    """What a configuration may ask for; the representation knows no layers, and no shared ones
    above it."""
    for model, settings in MODELS.items():
        yield f"uniform, {model}", {"model": settings, "method": {"kind": "uniform"}}
        for mode, gradients in MODES.items():
            for method in METHODS:
                if mode == "representation" and (model == "own layer" or method == "gradnorm"):
                    continue
                sections = {"model": settings, "gradients": gradients, "method": {"kind": method}}
                yield f"{method}, {mode}, {model}", sections
    # Steps that count conflicts take other ways where they would have one row for all tasks.
    recon = {"threshold": -0.1, "search_share": 1.0}
    for model, settings in MODELS.items():
        uniform = {"kind": "uniform"}
        yield f"search, {model}", {"model": settings, "method": uniform, "recon": recon}
    for mode in ("scope bottom", "representation"):
        yield f"search, {mode}", {"gradients": MODES[mode], "recon": recon}


def config_of(sections: Sections, **training: Any) -> RunConfig:
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
        "model": sections.get("model", MODELS["bottom"]),
        "method": sections.get("method", {"kind": "gradops"}),
        "gradients": {"backend": "torch"} | sections.get("gradients", {}),
        "recon": sections.get("recon"),
        "training": {"global_batch_size": BATCH, "log_interval_steps": 1, "epochs": 4} | training,
    }
    return RunConfig.model_validate(tree, strict=False)


class FakeTables(ShardedTables):
    """Tables of one worker, with the cuts of the real ones but without TorchRec's kernels."""

    def __init__(self, device: torch.device) -> None:
        self._weight = torch.empty(20, 12, device=device, requires_grad=True)
        self._owned = [OwnedShards([OwnedFeature(0, 8, 0), OwnedFeature(10, 4, 1)], device)]
        self._device, self._owners = device, ["user", "items"]

    def look_up(self, ids: IdBags, learning_rate_factor: float) -> Lookup:
        output = self._weight[:BATCH] * 1.0
        leaf = output.detach().requires_grad_()
        return Lookup(leaf * 1.0, [output], [leaf], [keyed_jagged(ids)], {"table_gradients": 0})

    def to_shards(self, lookup: Lookup, gradient: Tensor) -> ShardOutputGradients:
        return list(torch.autograd.grad(lookup.pooled, lookup.leaves, gradient, retain_graph=True))

    def gradient_bytes(self, batch_rows: int) -> int:
        return 0

    def state_dict(self) -> dict[str, Any]:
        return {}


def worker_of(config: RunConfig, device: torch.device) -> Worker:
    """As `build` makes it, but for TorchRec's tables and a log to plan."""

    def made(shape: BodyShape) -> MultiTaskBody:
        with unset_fake_temporarily():  # a deep copy of a fake tensor belongs to another mode
            body = body_factory(config.model)(shape)
        move(body, torch.device("cpu"))
        body.to = partial(move, body)  # type: ignore[method-assign]
        return body

    def planned(*_: Any, **__: Any) -> Plan:
        return Plan((BATCH,), 1, BATCH, 1, 0)

    with (
        patch.object(build_module, "ShardedTables", lambda *_: FakeTables(device)),
        patch.object(build_module, "plan_of", planned),
    ):
        no_log: Any = None
        return build_module.build(config, WorkerContext(0, 1, 1, device), no_log, body=made)


def move(module: torch.nn.Module, device: torch.device) -> None:
    """Module.to needs a device that is there."""
    for name, parameter in list(module.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        moved = torch.nn.Parameter(torch.empty(parameter.shape, device=device))
        setattr(module.get_submodule(owner), leaf, moved)


def batch_on(device: torch.device, step: int, *, weighted: bool) -> ClickBatch:
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
        keys=np.zeros((BATCH, 0), dtype=np.uint64),
        nulls=np.zeros(5, dtype=np.int64),
        label_weights=torch.empty(BATCH, TASKS, device=device) if weighted else None,
    )


def take_steps(worker: Worker, *, weighted: bool = False) -> str:
    """What an even and an odd step end with; the odd one where it computes something else."""
    even, odd = worker.mode(2), worker.mode(3)
    try:
        for step in (2,) if replace(odd, step=2) == even else (2, 3):
            batch = batch_on(worker.context.device, step, weighted=weighted)
            with HostWatch():
                train_step(worker, batch, count_globally(batch, stop_asked=False), PhaseClock())
    except Exception as error:
        return type(error).__name__
    return "none"


def take_spoilt_step(worker: Worker, fault: Callable[[Tensor], object]) -> str:
    """What a step ends with whose method does this with the products."""
    method, device = worker.weigher.method, worker.context.device

    def spoilt(evidence: Evidence, state: MethodState) -> tuple[TaskWeighting, MethodState]:
        assert evidence.gram is not None
        fault(evidence.gram)
        return method.weigh_tasks(evidence, state)

    seed, spoilt_method = worker.config.run.seed, replace(method, weigh_tasks=spoilt)
    return take_steps(replace(worker, weigher=TaskWeigher(spoilt_method, TASKS, seed, device)))


def main() -> None:
    _setup_privateuseone_for_python_backend("without_values")
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    device = torch.device("without_values")
    with FakeTensorMode(allow_non_fake_inputs=False):
        ends = {
            f"{name}, clip {clip}": take_steps(
                worker_of(config_of(sections, gradient_clip_norm=clip), device)
            )
            for name, sections in cases()
            for clip in (None, 1.0)
        }
        worker = worker_of(config_of({}), device)
        ends["weighted rows"] = take_steps(worker, weighted=True)
        ends |= {f"planted {n}": take_spoilt_step(worker, f) for n, f in FAULTS.items()}
    json.dump(ends, sys.stdout)


if __name__ == "__main__":
    main()
