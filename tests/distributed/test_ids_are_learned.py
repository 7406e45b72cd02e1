"""What a model can tell apart by its ids, whatever numbers and types they are stored as.

Each log's label is decided by its id alone, so the AUC says whether ids kept rows of their own.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from recsys_mtl.config.file import load_config
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.train import train_step
from recsys_mtl.worker.build import build
from recsys_mtl.worker.counts import count_globally
from recsys_mtl.worker.evaluation import evaluate
from tests.unit.data.click_logs import fresh_generator

IntArray = NDArray[np.int64]
RUN = """
run: {{name: ids, seed: 1}}
data:
  train: {folder}/train.parquet
  eval: {folder}/eval.parquet
  lanes: 2
  features: {{id: {{kind: id, rows: {rows}, embedding_dim: 8}}}}
  labels: {{odd: odd}}
model: {{bottom_hidden_sizes: [8]}}
method: {{kind: gradops}}
optimizer: {{dense: {{kind: adam, learning_rate: 0.01}}, tables: {{learning_rate: 0.1}}}}
training: {{global_batch_size: 256, epochs: 1}}
"""


def train_and_judge(
    folder: Path, context: WorkerContext, ids: pa.Array, odd: IntArray, *, rows: int
) -> dict[str, float]:
    """What a model that was trained for an epoch says of the same rows.

    Args:
        ids: [n]
        odd: [n] the label, which the id decides.
        rows: of the table.
    """
    for name in ("train", "eval"):
        pq.write_table(pa.table({"id": ids, "odd": odd}), folder / f"{name}.parquet")
    run_yaml = folder / "run.yaml"
    run_yaml.write_text(RUN.format(folder=folder, rows=rows))
    return train(run_yaml, context)["odd"]


def train(run_yaml: Path, context: WorkerContext) -> dict[str, dict[str, float]]:
    """The evaluation after the run's one epoch, by task."""
    config = load_config(run_yaml)
    manifest = read_manifest(config.data.train, config.data)
    worker = build(config, context, manifest)
    stream = BatchStream(
        manifest,
        worker.plan,
        config.data,
        rank=context.rank,
        world_size=context.world_size,
        first_step=0,
        last_step=worker.plan.steps_per_epoch,
    )
    with stream as batches:
        for batch in batches:
            train_step(worker, batch, count_globally(batch, stop_asked=False), PhaseClock())
    return evaluate(worker.model, read_manifest(config.data.eval, config.data))


def test_ids_with_a_time_stamp_in_their_upper_bits_are_told_apart(
    tmp_path: Path, alone: WorkerContext
) -> None:
    # Multiples of 2^22, as identifiers made from a clock are: a remainder gave all of them one row.
    # Hashed, 6 % of 1,000 ids share one of 16,384 rows, which costs 0.0004 of the AUC.
    numbers = fresh_generator().integers(0, 1000, 40_000)
    ids = pa.array((1_700_000_000_000 + 37 * numbers) << 22)
    assert train_and_judge(tmp_path, alone, ids, numbers % 2, rows=16_384)["auc"] > 0.99


def test_compact_ids_need_no_room_and_have_the_same_scores_in_every_type(
    tmp_path: Path, alone: WorkerContext
) -> None:
    hours = fresh_generator().integers(0, 24, 20_000)
    kinds = [
        pa.int32(),
        pa.int64(),
        pa.uint64(),
        pa.dictionary(pa.int8(), pa.int64()),
        pa.dictionary(pa.int32(), pa.uint32()),
    ]
    found = [
        train_and_judge(tmp_path, alone, pa.array(hours.tolist(), kind), hours % 2, rows=24)
        for kind in kinds
    ]
    assert found[0]["auc"] > 0.999
    assert all(outcome == found[0] for outcome in found)


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_negative_ids_and_strings_are_told_apart(
    tmp_path: Path, alone: WorkerContext, kind: pa.DataType
) -> None:
    numbers = fresh_generator().integers(-50, 50, 20_000)
    values = numbers if pa.types.is_integer(kind) else numbers.astype(str)
    ids = pa.array(values.tolist(), kind)
    assert train_and_judge(tmp_path, alone, ids, numbers % 2, rows=4096)["auc"] > 0.99
