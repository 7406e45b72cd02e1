"""Bodies other than the demo's own learn what its log holds."""

import json
import subprocess
import sys
from pathlib import Path

REACHED = 0.7
"""Of the way from chance to the AUC of the probabilities that the labels were drawn from."""


def run(*command: str) -> None:
    subprocess.run([sys.executable, "-m", *command], check=True, timeout=300)


def test_a_mixture_of_experts_learns_most_of_what_can_be_learnt(tmp_path: Path) -> None:
    log = tmp_path / "demo"
    run("pipelines.synthetic_clicks", "--out", str(log), "--rows", "40000", "--seed", "1")
    settings = {
        "data.train": log / "train",
        "data.eval": log / "eval",
        "run.storage_path": tmp_path / "runs",
        "cluster.num_workers": 0,
        "model.body": "{kind: mmoe}",
        "training.global_batch_size": 256,  # as many steps as the whole demo has
        "optimizer.dense.learning_rate": 0.002,
        "metrics.linger_seconds": 0,
    }
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    run("recsys_mtl", "train", "pipelines/runs/demo.yaml", *overrides)
    best = json.loads((log / "truth.json").read_text())["tasks"]
    found = json.loads((tmp_path / "runs" / "demo" / "result.json").read_text())["tasks"]
    for task, numbers in found.items():
        share = (numbers["auc"] - 0.5) / (best[task]["auc"] - 0.5)
        assert share >= REACHED, (task, share)
