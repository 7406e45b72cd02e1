"""What clipping does to a step: body and tables by one factor, the tasks' own parameters apart."""

import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from recsys_mtl.distributed.context import WorkerContext
from tests.distributed.test_single_steps import numbers, run_yaml, step, worker_and_batches

__all__ = ["run_yaml"]

RATE = 1.0  # what moved is the gradient then, not rounding
SGD = (
    f"optimizer.dense={{kind: sgd, learning_rate: {RATE}}}",
    f"optimizer.tables={{kind: sgd, learning_rate: {RATE}}}",
)


class Case(NamedTuple):
    """What an odd step computes."""

    overrides: tuple[str, ...]
    tables_count: bool = True
    """Whether the tables' gradient is in the norm that is clipped."""
    always_measured: bool = True
    """Whether the norm is known without clipping, too: for one row it costs a look at the tables,
    which is taken to clip alone."""


CASES = {
    "all": Case(()),
    "scope bottom": Case(("gradients.scope=bottom",), tables_count=False),
    "between refreshes": Case(("gradients.refresh_interval_steps=2",), always_measured=False),
    "between refreshes, scope bottom": Case(
        ("gradients={refresh_interval_steps: 2, scope: bottom}",), False, False
    ),
    "representation": Case(
        ("gradients={space: representation, audit_interval_steps: 2}",), always_measured=False
    ),
    "uniform": Case(("method={kind: uniform}",), always_measured=False),
    "gradnorm": Case(("method={kind: gradnorm}",)),
    "experts": Case(("model.body={kind: mmoe, experts: 2, expert_hidden_sizes: [8]}",)),
    "own layer": Case(("model.task_specific_layers=[bottom.layers.1]",)),
    "no tables": Case(("data.features={price: {kind: dense}}",), tables_count=False),
}


class Moves(NamedTuple):
    """What one step moves everything by, over the learning rate: flat gradients, clipped."""

    shared: Tensor
    tables: Tensor
    own: Tensor
    norm: float
    """Of the update, as the step records it."""


def odd_step(path: Path, context: WorkerContext, *overrides: str) -> Moves:
    worker, batches = worker_and_batches(path, context, *SGD, *overrides)
    before = numbers(worker)
    record = step(worker, batches[1])
    after = numbers(worker)

    def moved(names: list[str]) -> Tensor:
        moves = [(after[name] - before[name]).flatten().double() / RATE for name in names]
        return torch.cat([torch.zeros(0, dtype=torch.float64), *moves])

    return Moves(
        shared=moved([*worker.model.body.shared_parameters()]),
        tables=moved([name for name in before if name.startswith("tables.")]),
        own=moved([name for task in range(3) for name in worker.model.body.task_parameters(task)]),
        norm=record.update_norm.item(),
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("share", [0.25, 4.0], ids=["short limit", "long limit"])
def test_a_limit_shortens_what_is_longer_and_leaves_the_rest(
    run_yaml: Path, alone: WorkerContext, case: Case, share: float
) -> None:
    free = odd_step(run_yaml, alone, *case.overrides)
    covered = torch.cat([free.shared, free.tables]) if case.tables_count else free.shared
    norm, own_norm = covered.norm().item(), free.own.norm().item()
    limit = share * (min if share < 1 else max)(norm, own_norm)
    limited = f"training.gradient_clip_norm={limit}"
    clipped = odd_step(run_yaml, alone, *case.overrides, limited)
    factor, own_factor = min(1.0, limit / norm), min(1.0, limit / own_norm)
    for part, expected in (
        ("shared", factor * free.shared),
        ("tables", factor * free.tables),
        ("own", own_factor * free.own),
    ):
        torch.testing.assert_close(getattr(clipped, part), expected, rtol=1e-3, atol=1e-4)
    assert clipped.norm == pytest.approx(factor * norm, rel=1e-3)
    if case.always_measured:
        assert free.norm == pytest.approx(norm, rel=1e-3)
    else:
        assert math.isnan(free.norm)
