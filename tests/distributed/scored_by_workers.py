"""Judge a log and score it on gloo workers without Ray.

Left in the folder `out`: evaluation.json, and predicted/ with a file per file of the log.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.driver.predict import names_of_outputs
from recsys_mtl.driver.storage import Folder
from recsys_mtl.driver.trained_run import open_run, scoring_config
from recsys_mtl.worker.job import EvaluationJob, PredictionJob, TrainedModel
from recsys_mtl.worker.scoring import score


@dataclass(frozen=True)
class Host:
    context: WorkerContext

    def advance(self, rows: int) -> None:
        """Nobody watches."""


def run_worker(rank: int, world_size: int, run_url: str, log_url: str, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{out}/store", rank=rank, world_size=world_size
    )
    host = Host(WorkerContext(rank, world_size, world_size, torch.device("cpu")))
    run = open_run(run_url)
    model = TrainedModel(scoring_config(run, [f"cluster.num_workers={world_size}"]), run.source)
    log = read_manifest(log_url, model.config.data)
    job = EvaluationJob(model, log, group_by="user", slices=("place",))
    # The model against itself, less well scored: in bfloat16.
    rough = replace(model, config=scoring_config(run, ["training.precision=bfloat16"]))
    found = score(host, replace(job, against=rough, max_auc_drop=0.01))
    predicted = Folder(f"{out}/predicted")
    score(host, PredictionJob(model, log, predicted, names_of_outputs(log), keep=("user",)))
    if rank == 0:
        (out / "evaluation.json").write_text(json.dumps(found))
    dist.destroy_process_group()
