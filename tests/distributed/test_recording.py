"""What a step measures of its coefficients and of the move that it has made, and when."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.gradients.methods.contract import Evidence, Method, MethodState, TaskWeighting
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.weighing import TaskWeigher
from tests.distributed.test_single_steps import (
    STEPS,
    numbers,
    run_yaml,
    step,
    worker_and_batches,
)

__all__ = ["run_yaml"]


@pytest.mark.parametrize(
    ("log_interval", "overrides", "measured"),
    [
        (1, "gradients.scope=all", [0, 1, 2, 3]),
        (2, "gradients.scope=all", [1, 3]),
        (4, "gradients.scope=all", [3]),
        (5, "gradients.scope=all", []),
        (4, "gradients.refresh_interval_steps=3", [3]),
        (4, "gradients.refresh_interval_steps=2", [2]),
        (2, "gradients.refresh_interval_steps=2", [0, 2]),
        (4, "gradients={space: representation, audit_interval_steps: 2}", [2]),
        (1, "method={kind: uniform}", []),
        (2, "method={kind: gradnorm}", [1, 3]),
    ],
)
def test_the_last_step_of_a_log_interval_that_has_task_gradients_measures_the_move(
    run_yaml: Path, alone: WorkerContext, log_interval: int, overrides: str, measured: list[int]
) -> None:
    interval = f"training.log_interval_steps={log_interval}"
    worker, batches = worker_and_batches(run_yaml, alone, overrides, interval)
    records = [step(worker, batch) for batch in batches]
    assert len(records) == STEPS
    assert [s for s, r in enumerate(records) if not r.applied.isnan().any()] == measured
    assert [s for s, r in enumerate(records) if r.applied.isnan().all()] == [
        s for s in range(STEPS) if s not in measured
    ]


@pytest.mark.parametrize(
    "overrides", ["method={kind: uniform}", "gradients.refresh_interval_steps=4"]
)
def test_steps_of_a_search_measure_the_move_and_show_products_whatever_the_method_reads(
    run_yaml: Path, alone: WorkerContext, overrides: str
) -> None:
    search = ("recon={threshold: 0, search_share: 1}", "training.log_interval_steps=2")
    worker, batches = worker_and_batches(run_yaml, alone, overrides, *search)
    records = [step(worker, batch) for batch in batches]
    assert [s for s, r in enumerate(records) if not r.applied.isnan().any()] == [1, 3]
    for record in records:
        assert record.gram is not None
        assert record.update_norm.isfinite()
    gradients = worker.shared_rows.double()
    # The tables' part is in the Gram, too.
    assert (records[-1].gram.diagonal() > gradients.square().sum(dim=1)).all()


@pytest.mark.parametrize("scope", ["all", "bottom"])
def test_the_move_is_compared_with_each_task_s_gradient_of_the_body(
    run_yaml: Path, alone: WorkerContext, scope: str
) -> None:
    overrides = (f"gradients.scope={scope}", "training.log_interval_steps=1")
    worker, batches = worker_and_batches(run_yaml, alone, *overrides)
    for batch in batches:  # Adam: the move is not the gradient's
        before = worker.model.shared.vector.clone()
        record = step(worker, batch)
        move = (worker.model.shared.vector - before).double()
        gradients = worker.shared_rows.double()  # as the step left them
        expected = -(gradients @ move) / (gradients.norm(dim=1) * move.norm())
        torch.testing.assert_close(record.applied, expected, rtol=1e-5, atol=1e-6)


def test_a_skipped_step_has_made_no_move_to_measure(run_yaml: Path, alone: WorkerContext) -> None:
    worker, batches = worker_and_batches(run_yaml, alone, "training.log_interval_steps=1")
    with torch.no_grad():
        worker.model.body.task_parameters(0)["heads.purchase.0.bias"].fill_(torch.nan)
    before = numbers(worker)
    record = step(worker, batches[0])
    assert record.skipped
    assert record.applied.isnan().all()
    assert torch.equal(
        worker.model.shared.views(worker.model.shared.vector)["bottom.layers.0.weight"],
        before["bottom.layers.0.weight"],
    )


def always(factor: float) -> Method:
    """Compares gradients, and then multiplies each by the same."""

    def weigh_tasks(evidence: Evidence, state: MethodState) -> tuple[TaskWeighting, MethodState]:
        same = torch.full((3,), factor, dtype=torch.float64)
        return TaskWeighting(same, same.abs()), state

    return Method("always", frozenset({"gram"}), weigh_tasks)


def worker_with(
    method: Method, path: Path, context: WorkerContext, *overrides: str
) -> tuple[Worker, list[ClickBatch]]:
    worker, batches = worker_and_batches(path, context, *overrides)
    weigher = TaskWeigher(method, 3, worker.config.run.seed, context.device)
    return replace(worker, weigher=weigher), batches


@pytest.mark.parametrize("scope", ["all", "bottom"])
@pytest.mark.parametrize(("factor", "against"), [(-1.0, True), (0.0, False)])
def test_an_audit_measures_what_the_representation_s_coefficients_would_do(
    run_yaml: Path, alone: WorkerContext, factor: float, against: bool, scope: str
) -> None:
    gradients = f"gradients={{space: representation, audit_interval_steps: 2, scope: {scope}}}"
    worker, batches = worker_with(always(factor), run_yaml, alone, gradients)
    found = [step(worker, batch).opposes for batch in batches]
    assert found[1] is found[3] is None
    assert [found[audit].item() for audit in (0, 2)] == [against] * 2


@pytest.mark.parametrize(("cached", "newest", "against"), [(-1.0, 0.0, True), (0.0, -1.0, False)])
def test_a_refresh_measures_the_coefficients_that_it_replaces(
    run_yaml: Path, alone: WorkerContext, cached: float, newest: float, against: bool
) -> None:
    refreshed = "gradients.refresh_interval_steps=2"
    worker, batches = worker_with(always(newest), run_yaml, alone, refreshed)
    first = [step(worker, batch).opposes for batch in batches[:2]]
    assert first == [None, None]  # the first refresh replaces nothing
    worker.weigher.cached.fill_(cached)
    opposes = step(worker, batches[2]).opposes
    assert opposes is not None
    assert opposes.item() is against


@pytest.mark.parametrize("overrides", ["gradients.scope=all", "method={kind: uniform}"])
def test_coefficients_made_of_the_step_s_own_gradients_are_not_audited(
    run_yaml: Path, alone: WorkerContext, overrides: str
) -> None:
    worker, batches = worker_and_batches(run_yaml, alone, overrides)
    assert [step(worker, batch).opposes for batch in batches] == [None] * STEPS
