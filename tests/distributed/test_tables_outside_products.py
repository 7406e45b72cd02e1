"""Tables that no product was taken of move by weights, never by coefficients.

Three tasks' gradients of a bottom of one unit, (10, 10, -1), (1, 0, 0) and (0, 0, 1) in its three
used weights: the second has a negative coefficient though every task gains.
"""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from recsys_mtl.worker.shared_update import Backward, shared_update
from torch import Tensor

from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.distributed.collectives import PendingSums
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.worker.build import build
from recsys_mtl.worker.state import Worker

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
    assert worker.tables is not None
    (weights,) = worker.tables.state()["rows"].values()
    return weights.local_shards()[0].tensor


def move_tables(
    path: Path, context: WorkerContext, *overrides: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients [T]; the first weights w [4]; what the rows [3, 4] moved by."""
    config = load_config(path, overrides)
    manifest = read_manifest(config.data.train, config.data)
    worker = build(config, context, manifest)
    with torch.no_grad():
        table(worker).copy_(torch.eye(4))
        worker.bottom.layers[0].bias.fill_(5.0)  # the unit is active in every row
    with BatchStream(
        manifest, worker.plan, config.data, rank=0, world_size=1, first_step=0, last_step=1
    ) as batches:
        (batch,) = batches
    lookup = worker.look_up(batch)
    assert lookup is not None
    tape = worker.forward(lookup, batch.dense, [])
    used = lookup.pooled.detach()[:, :3]  # [B, 3] one-hot, in the order of the shuffle
    deltas = GRADIENTS @ used.T
    deltas = deltas - deltas.sum(dim=1, keepdim=True) * (used.sum(dim=1) == 0)  # none for the bias
    back = Backward(worker, tape, lookup, deltas[:, :, None], PendingSums(), PhaseClock())
    for step in range(2):
        update = shared_update(replace(back, sums=PendingSums()), step)
    assert update.tables is not None
    assert worker.tables is not None
    before = table(worker).clone()
    worker.tables.update(lookup, update.tables)
    weight = worker.bottom.layers[0].weight.detach()[0]
    return update.decision.coefficients, weight, (table(worker) - before)[:3]


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
