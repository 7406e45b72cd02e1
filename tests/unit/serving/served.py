"""A log with every kind of column, a checkpoint of a model that reads it, and the bundle of that.

The parameters are drawn, not trained: all of them differ, and so do the scores of different rows.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys_mtl.config import RunConfig
from recsys_mtl.config.file import load_config
from recsys_mtl.data.batch import assemble_features
from recsys_mtl.data.features import encode_features
from recsys_mtl.data.ids import ID_ENCODING_VERSION
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.schema import feature_columns
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.driver.committed import LOCAL_INDEX, CommittedCheckpoint, local_index
from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.worker.build import build_model
from recsys_mtl.worker.checkpoint_metadata import VERSION, CheckpointMetadata
from recsys_mtl.worker.model import DistributedModel
from recsys_mtl.worker.named_tensors import save_tensors

HERE = WorkerContext(0, 1, 1, torch.device("cpu"))
CITIES = ["Oslo", "Łódź", "東京", "", "Rio"]
RUN = """
run: {{name: served, seed: 4}}
data:
  train: {log}
  eval: {log}
  features:
    user: {{kind: id, rows: 40, embedding_dim: 8}}
    item: {{kind: id, rows: 30, embedding_dim: 12}}
    recent: {{kind: id, table: item, pooling: mean}}
    viewed: {{kind: id, table: item, column: seen}}
    city: {{kind: id, rows: 60, embedding_dim: 4}}
    tags: {{kind: id, rows: 50, embedding_dim: 4, pooling: mean}}
    never: {{kind: id, rows: 5, embedding_dim: 4}}
    price: {{kind: dense, transform: log1p, mean: 1.5, std: 0.7, fill: 0.3}}
    stars: {{kind: dense}}
    user_number: {{kind: dense, column: level}}
    level: {{kind: id, rows: 9, embedding_dim: 4}}
    town: {{kind: one_hot, column: city, vocabulary: [Oslo, 東京, ""]}}
    rating: {{kind: one_hot, column: stars, vocabulary: [5, 0, 3]}}
    size: {{kind: one_hot, vocabulary: [s, m]}}
    unseen: {{kind: one_hot, vocabulary: [1, 2]}}
  labels: {{purchase: buy, cart: cart}}
model: {{bottom_hidden_sizes: [16, 8], dropout: 0.2, head_hidden_sizes: [4]}}
method: {{kind: gradops}}
training: {{global_batch_size: 64}}
cluster: {{num_workers: 0, device: cpu}}
"""


def log_rows(num_rows: int, rng: np.random.Generator) -> pa.Table:
    """Rows with nulls in every column of a feature, empty lists, and ids beyond 2^63."""

    def some(values: Sequence[object], kind: pa.DataType) -> pa.Array:
        kept = rng.random(num_rows) > 0.15
        return pa.array([v if k else None for v, k in zip(values, kept, strict=True)], kind)

    def bags(inner: Sequence[object]) -> list[list[object]]:
        sizes = rng.integers(0, 5, num_rows)
        return [[inner[i] for i in rng.integers(0, len(inner), size)] for size in sizes]

    users = rng.integers(0, 2**64, num_rows, dtype=np.uint64)
    users[::3] = rng.integers(0, 40, len(users[::3]))
    items = rng.integers(-5, 60, num_rows)
    return pa.table(
        {
            "user": some(users.tolist(), pa.uint64()),
            "item": some(items.tolist(), pa.int32()),
            "recent": some(bags([*range(60), None]), pa.list_(pa.int64())),
            "seen": some(bags(range(40)), pa.large_list(pa.int16())),
            "city": some(rng.choice(CITIES, num_rows).tolist(), pa.string()),
            "tags": some(bags(["new", "hot", "老", None]), pa.list_(pa.string())),
            "never": pa.nulls(num_rows),
            "price": some(rng.lognormal(1.5, 1, num_rows).tolist(), pa.float32()),
            "stars": some(rng.integers(0, 6, num_rows).tolist(), pa.int8()),
            "level": some(rng.integers(0, 9, num_rows).tolist(), pa.int64()),
            "size": some(rng.choice(["s", "m", "l"], num_rows).tolist(), pa.string()),
            "unseen": pa.nulls(num_rows),
            "buy": rng.integers(0, 2, num_rows),
            "cart": rng.integers(0, 2, num_rows),
        }
    )


@dataclass(frozen=True)
class Trained:
    """A run with one checkpoint, and the model that it holds as training has it."""

    config: RunConfig
    url: str
    """The run's folder."""
    model: DistributedModel

    def probabilities(self, table: pa.Table) -> dict[str, np.ndarray]:
        """By the forward of training, on the columns as a reader of Parquet gives them."""
        columns = table.select(feature_columns(self.config.data.features))
        features = encode_features(columns, self.config.data)
        with torch.no_grad():
            logits: Tensor = self.model.score(
                assemble_features([features], table.num_rows, self.config.data)
            )
        scores = logits.sigmoid().numpy()
        return {task: scores[:, place] for place, task in enumerate(self.config.task_names)}


def train(
    folder: Path,
    log: pa.Table,
    *overrides: str,
    body: BodyFactory | None = None,
    first_number: float | None = None,
) -> Trained:
    """A run of a model with drawn parameters; needs a process group of this process.

    Args:
        first_number: stands first in the first table, instead of what was drawn.
    """
    run = folder / "runs" / "served"
    run.mkdir(parents=True)
    pq.write_table(log, folder / "log.parquet", row_group_size=64)
    (folder / "run.yaml").write_text(RUN.format(log=folder / "log.parquet"))
    config = load_config(folder / "run.yaml", overrides)
    model = build_model(config, HERE, body=body)
    model.shared.vector.add_(0.05 * torch.randn_like(model.shared.vector))
    if first_number is not None:
        assert model.tables is not None
        first = next(iter(model.tables.state_dict().values()))
        first.local_shards()[0].tensor[0, 0] = first_number
    save_tensors(model.state_dict(), run / "checkpoint")
    manifest = read_manifest(config.data.train, config.data)
    # What else it says of its run is not of the model, and null here.
    metadata = dict.fromkeys(field.name for field in fields(CheckpointMetadata)) | {
        "version": VERSION,
        "id_encoding": ID_ENCODING_VERSION,
        "step": 7,
        "saved_at": 0.0,
        "config": config.model_dump(mode="json"),
        "data_digest": "abc",
        "column_families": dict(manifest.column_families),
        "sharding_plan": {},
        "evaluation": {"purchase": {"auc": 0.75, "rows": 10}, "cart": {"auc": float("nan")}},
    }
    (run / "checkpoint" / "run.json").write_text(json.dumps(metadata))
    (run / LOCAL_INDEX).write_bytes(local_index([CommittedCheckpoint("checkpoint", 7)]))
    (run / "config.yaml").write_text(config.to_yaml())
    return Trained(config, str(run), model)
