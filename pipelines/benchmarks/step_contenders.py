"""The methods of the benchmark of training steps, each with the paper's model, MMoE or PLE."""

# B rows, T tasks

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import yaml

from pipelines.benchmarks.torchjd_step import torchjd_step
from recsys_mtl.config import RunConfig
from recsys_mtl.data.batch import ClickBatch, IdBags
from recsys_mtl.data.features import REJECT_REASONS
from recsys_mtl.data.manifest import Manifest, RowGroup
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.metrics.phases import PhaseClock
from recsys_mtl.train import train_step
from recsys_mtl.worker.build import build
from recsys_mtl.worker.counts import count_globally
from recsys_mtl.worker.state import Worker

FEATURES, COLUMNS, TASKS = 46, 16, ("purchase", "cart", "wish")
TABLE_ROWS = (50_000, 100_000, 2_000, 200, 20, 3, 1_000, 8_000, 10, 60)
REFRESH = 8
ALPHA = 0.5
GRADOPS = "{kind: gradops, alpha: 0.5}"
UNIFORM = "{kind: uniform}"
STATIC = "{kind: gradops_static, weights: {purchase: 1.5, cart: 0.5, wish: 1.0}}"
BOTTOM = "{scope: bottom}"
MMOE = "{body: {kind: mmoe}}"
PLE = "{body: {kind: ple}}"
METHODS = {
    "uniform": (UNIFORM, "{}", "{}"),
    "gradops": (GRADOPS, BOTTOM, "{}"),
    "gradops_all": (GRADOPS, "{}", "{}"),
    "gradops_refresh8": (GRADOPS, "{refresh_interval_steps: 8}", "{}"),
    "gradops_representation": (GRADOPS, "{space: representation}", "{}"),
    "mmoe_uniform": (UNIFORM, "{}", MMOE),
    "mmoe_gradops_all": (GRADOPS, "{}", MMOE),
    "ple_uniform": (UNIFORM, "{}", PLE),
    "ple_gradops_all": (GRADOPS, "{}", PLE),
    "uniform_search": (UNIFORM, "{}", "{}"),
    "gradops_all_search": (GRADOPS, "{}", "{}"),
    "gradops_static": (STATIC, BOTTOM, "{}"),
    "dw": ("{kind: dw}", BOTTOM, "{}"),
    "pcgrad": ("{kind: pcgrad}", BOTTOM, "{}"),
    "pcgrad_dw": ("{kind: pcgrad_dw}", BOTTOM, "{}"),
    "gradvac": ("{kind: gradvac}", BOTTOM, "{}"),
    "mgda": ("{kind: mgda}", BOTTOM, "{}"),
    "mgda_representation": ("{kind: mgda}", "{space: representation}", "{}"),
    "cagrad": ("{kind: cagrad}", BOTTOM, "{}"),
    "imtl_g": ("{kind: imtl_g}", BOTTOM, "{}"),
    "upgrad": ("{kind: upgrad}", BOTTOM, "{}"),
    "gradnorm": ("{kind: gradnorm}", BOTTOM, "{}"),
    "torchjd_pcgrad": (UNIFORM, "{}", "{}"),
    "torchjd_gradvac": (UNIFORM, "{}", "{}"),
    "torchjd_cagrad": (UNIFORM, "{}", "{}"),
    "torchjd_imtl_g": (UNIFORM, "{}", "{}"),
    "torchjd_upgrad": (UNIFORM, "{}", "{}"),
}
"""The sections `method`, `gradients` and `model` of each one's run."""
CHECK_RATE = 1e3
"""Learning rate of plain descent in the check: what moved is the update, not rounding."""


@dataclass(frozen=True)
class Contender:
    """A method with a model of its own."""

    worker: Worker
    step: Callable[[ClickBatch], object]
    """One training step on a batch."""


def contender(name: str, batch_size: int, optimizer: str) -> Contender:
    """The method on a fresh model; Adam, or for the check plain descent."""
    config = RunConfig.model_validate(run_tree(name, batch_size, optimizer), strict=False)
    manifest = Manifest("log", (RowGroup("log", 0, batch_size),), "")
    worker = build(config, WorkerContext(0, 1, 1, torch.device("cpu")), manifest)
    if name.startswith("torchjd"):
        return Contender(worker, torchjd_step(name, worker))
    return Contender(worker, lambda batch: whole_step(worker, batch))


def whole_step(worker: Worker, batch: ClickBatch) -> None:
    """One step as the training loop takes it, its counts included."""
    train_step(worker, batch, count_globally(batch, stop_asked=False), PhaseClock())


def run_tree(name: str, batch_size: int, optimizer: str) -> dict[str, object]:
    """The run's configuration as `RunConfig` takes it."""
    method, gradients, model = METHODS[name]
    rate = 1e-3 if optimizer == "adam" else CHECK_RATE
    tables = {"kind": "rowwise_adagrad"} if optimizer == "adam" else {"kind": "sgd"}
    return {
        "run": {"name": name},
        "data": {
            "train": "log",
            "eval": "log",
            "lanes": 1,
            "features": {
                f"feature_{place}": {
                    "kind": "id",
                    "rows": TABLE_ROWS[place % len(TABLE_ROWS)],
                    "embedding_dim": COLUMNS,
                }
                for place in range(FEATURES)
            },
            "labels": {task: task for task in TASKS},
        },
        "method": yaml.safe_load(method),
        "gradients": yaml.safe_load(gradients),
        "recon": {"threshold": 0.0, "search_share": 1.0} if name.endswith("_search") else None,
        "model": yaml.safe_load(model),
        "optimizer": {
            "dense": {"kind": optimizer, "learning_rate": rate},
            "tables": tables | {"learning_rate": rate},
        },
        "training": {"global_batch_size": batch_size, "max_steps": REFRESH},
    }


def random_batch(batch_size: int) -> ClickBatch:
    """[B] rows of one id per feature; the second task's labels oppose the first's."""
    rows = [TABLE_ROWS[place % len(TABLE_ROWS)] for place in range(FEATURES)]
    values = torch.cat([torch.randint(r, (batch_size,)) for r in rows])
    labels = torch.rand(batch_size, len(TASKS)).round()
    labels[:, 1] = torch.where(torch.rand(batch_size) < 0.4, 1 - labels[:, 0], labels[:, 1])
    return ClickBatch(
        step=1,
        ids=IdBags(
            names=tuple(f"feature_{place}" for place in range(FEATURES)),
            values=values,
            lengths=torch.ones(FEATURES * batch_size, dtype=torch.long),
            ids_per_feature=(batch_size,) * FEATURES,
        ),
        dense=torch.zeros(batch_size, 0),
        labels=labels,
        label_mask=torch.ones(batch_size, len(TASKS), dtype=torch.bool),
        counts=torch.tensor([batch_size] + [0.0] * len(REJECT_REASONS)),
        rows=batch_size,
        keys=np.zeros((batch_size, 0), dtype=np.uint64),
        nulls=torch.zeros(FEATURES + len(TASKS), dtype=torch.long).numpy(),
    )
