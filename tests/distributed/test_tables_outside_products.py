"""Tables that no product was taken of move by weights, never by coefficients.

Three tasks' gradients of a bottom of one unit, (10, 10, -1), (1, 0, 0) and (0, 0, 1) in its three
used weights: the second has a negative coefficient though every task gains.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.distributed.collectives import PendingSums
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.sharding import Lookup
from recsys_mtl.model.forward import Forward, TaskGradients
from recsys_mtl.worker.build import build
from recsys_mtl.worker.counts import GlobalCounts, count_globally
from recsys_mtl.worker.evidence import products_of_tasks, weigh_beforehand, weigh_by_products
from recsys_mtl.worker.shared_gradients import SharedUpdate, backward_through_trunk, combine
from recsys_mtl.worker.state import Worker
from recsys_mtl.worker.weighing import Weighed

# T tasks, B rows: three that look up one table row each, and one with an empty bag
GRADIENTS = torch.tensor([[10.0, 10.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
RATE = 0.01
RUN = """
run: {{name: outside, seed: 3}}
data:
  train: {log}
  eval: {log}
  lanes: 1
  features: {{item: {{kind: id, rows: 3, embedding_dim: 4}}}}
  labels: {{purchase: purchase, cart: cart, wish: wish}}
model: {{bottom_hidden_sizes: [1]}}
method: {{kind: gradops, alpha: 0.0}}
optimizer: {{tables: {{kind: sgd, learning_rate: 0.01}}}}
training: {{global_batch_size: 4}}
"""


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    """Rows in order of their item: with one row group a lane, the shuffle is undone below."""
    log = tmp_path / "log.parquet"
    items = pa.array([[0], [1], [2], []], type=pa.list_(pa.int64()))
    labels = {task: pa.array([0, 1, 0, 1], type=pa.int8()) for task in ("purchase", "cart", "wish")}
    pq.write_table(pa.table({"item": items, **labels}), log)
    path = tmp_path / "run.yaml"
    path.write_text(RUN.format(log=log))
    return path


def table(worker: Worker) -> Tensor:
    """[4, 4] rows 0 to 2, and the one for nulls."""
    return worker.state_dict()["tables.item"].local_shards()[0].tensor


def move_tables(
    path: Path, context: WorkerContext, *overrides: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients [T]; the first weights w [4]; what the rows [3, 4] moved by."""
    config = load_config(path, overrides)
    manifest = read_manifest(config.data.train, config.data)
    worker = build(config, context, manifest)
    parameters = worker.model.body.shared_parameters()
    with torch.no_grad():
        table(worker).copy_(torch.eye(4))
        parameters["bottom.layers.0.bias"].fill_(5.0)  # the unit is active in every row
    with BatchStream(
        manifest, worker.plan, config.data, rank=0, world_size=1, first_step=0, last_step=1
    ) as batches:
        (batch,) = batches
    lookup = worker.model.look_up(batch)
    assert lookup is not None
    forward = worker.model.forward(lookup, batch.dense)
    used = lookup.pooled.detach()[:, :3]  # [B, 3] one-hot, in the order of the shuffle
    deltas = GRADIENTS @ used.T
    deltas = deltas - deltas.sum(dim=1, keepdim=True) * (used.sum(dim=1) == 0)  # none for the bias
    tasks = [TaskGradients((delta[:, None],), {}, {}) for delta in deltas]
    counts = count_globally(batch, stop_asked=False)
    for step in range(2):
        weighed, update = weigh_and_combine(worker, step, counts, lookup, forward, tasks)
        worker.weigher.commit(weighed, skip=torch.tensor(False))
    before = table(worker).clone()
    one, no = torch.ones((), dtype=torch.float64), torch.tensor(False)
    worker.update_tables(lookup, update.tables, clip=one, skip=no)
    weight = parameters["bottom.layers.0.weight"].detach()[0]
    return weighed.weighting.coefficients, weight, (table(worker) - before)[:3]


def weigh_and_combine(
    worker: Worker,
    step: int,
    counts: GlobalCounts,
    lookup: Lookup,
    forward: Forward,
    tasks: list[TaskGradients],
) -> tuple[Weighed, SharedUpdate]:
    """From gradients of the representation on, as the training step does it."""
    mode, sums, losses = worker.mode(step), PendingSums(), torch.ones(len(tasks))
    weighed = weigh_beforehand(worker, mode, counts, losses, tasks)
    combine_by = None if weighed is None else weighed.weighting
    shared = backward_through_trunk(worker, forward, tasks, sums, combine_by)
    at_shards = worker.to_shards(lookup, shared.pooled)
    sums.wait()
    products = products_of_tasks(worker, mode, lookup, shared.rows, at_shards)
    if weighed is None:
        weighed = weigh_by_products(worker, mode, counts, losses, products)
    update = combine(worker, forward, lookup, shared, at_shards, weighed.weighting, products)
    return weighed, update


@pytest.mark.parametrize(
    "gradients",
    [
        "gradients.scope=bottom",
        "gradients={scope: bottom, refresh_interval_steps: 2}",
    ],
)
def test_tables_outside_the_products_move_by_the_weights(
    run_yaml: Path, alone: WorkerContext, gradients: str
) -> None:
    coefficients, weight, moved = move_tables(run_yaml, alone, gradients)
    assert coefficients.tolist() == pytest.approx([1.01, -9.1, 2.0], abs=0.01)
    # Every w_i is 1: row b moves by the plain sum of what the tasks ask of it.
    expected = -RATE * GRADIENTS.sum(dim=0)[:, None] * weight
    torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-6)
    by_coefficients = -RATE * (coefficients.float() @ GRADIENTS)[:, None] * weight
    assert (moved - by_coefficients).norm() > 0.5 * moved.norm()


def test_tables_inside_the_products_move_by_the_coefficients(
    run_yaml: Path, alone: WorkerContext
) -> None:
    coefficients, weight, moved = move_tables(run_yaml, alone)
    expected = -RATE * (coefficients.float() @ GRADIENTS)[:, None] * weight
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6)


def test_triton_is_refused_on_a_cpu_without_its_interpreter(
    run_yaml: Path, alone: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match=r"gradients\.backend: .*cannot run on a cpu device;"):
        move_tables(run_yaml, alone, "gradients.backend=triton")
