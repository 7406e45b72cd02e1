"""The demo's run on a small log, with a small body, and what it leaves."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from pipelines import synthetic_clicks
from recsys_mtl.config import RunConfig
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.committed import checkpoints_of
from recsys_mtl.driver.storage import Folder
from recsys_mtl.metrics.trace import read_trace

DEMO = Path(__file__).parents[2] / "pipelines" / "runs" / "demo.yaml"
STEPS = 60  # more than an epoch
TASKS = ("purchase", "cart", "wish")


def write_demo_log(folder: Path) -> Path:
    """3,000 clicks in `folder`/demo; returns `folder`."""
    synthetic_clicks.main(["--out", str(folder / "demo"), "--rows", "3000", "--seed", "1"])
    return folder


def overrides(folder: Path, run: str, *more: str, num_workers: int = 0) -> tuple[str, ...]:
    """The demo's run on the small log, with a small body."""
    return (
        f"run.name={run}",
        f"run.storage_path={folder}/runs",
        f"data.train={folder}/demo/train",
        f"data.eval={folder}/demo/eval",
        "model.bottom_hidden_sizes=[16, 8]",
        "model.dropout=0.1",
        "training.global_batch_size=64",
        "training.log_interval_steps=5",
        "training.checkpoint_interval_steps=20",
        "training.epochs=null",
        f"training.max_steps={STEPS}",
        f"cluster.num_workers={num_workers}",
        *more,
    )


def command(folder: Path, run: str, *more: str, num_workers: int = 0) -> list[object]:
    sets = overrides(folder, run, *more, num_workers=num_workers)
    return ["train", DEMO, *(part for o in sets for part in ("--set", o))]


def config_of(folder: Path, run: str, *more: str) -> RunConfig:
    return load_config(DEMO, overrides(folder, run, *more))


def trace_of(folder: Path, run: str) -> pd.DataFrame:
    return read_trace(f"{folder}/runs/{run}/trace").to_pandas()


def committed(folder: Path, run: str) -> list[str]:
    return [c.name for c in checkpoints_of(Folder(f"{folder}/runs/{run}"))]


def tensors_of(folder: Path, run: str) -> dict[str, Tensor]:
    """Everything that the newest checkpoint holds, put together from its shards."""
    run_folder = folder / "runs" / run
    dcp_to_torch_save(run_folder / committed(folder, run)[-1], run_folder / "whole.pt")
    return dict(torch.load(run_folder / "whole.pt"))


def losses_and_weights(trace: pd.DataFrame) -> pd.DataFrame:
    columns = [f"{quantity}_{task}" for quantity in ("loss", "weight") for task in TASKS]
    return trace[["step", "rows", *columns]]
