"""A load over several workers, each of which holds a part of the names."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# Rank r saves and wants `everywhere` and its own `of.r`; a forgetful rank 1 wants the first alone.
PROGRAM = """
import json, sys
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from dataclasses import asdict
from pathlib import Path
from recsys_mtl.worker.named_tensors import load_matching, save_tensors

def work(rank, folder, forgetful):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    names = ["everywhere", f"of.{rank}"]
    save_tensors({name: torch.full((2,), 3.0) for name in names}, folder / "checkpoint")
    wanted = {name: torch.zeros(2) for name in names[: 1 if rank == 1 and forgetful else 2]}
    report = asdict(load_matching(wanted, folder / "checkpoint"))
    report["loaded"] = sorted(name for name, tensor in wanted.items() if tensor.eq(3).all())
    (folder / f"{rank}.json").write_text(json.dumps(report))
    dist.destroy_process_group()

folder, forgetful = Path(sys.argv[1]), sys.argv[2] == "forgetful"
mp.start_processes(work, args=(folder, forgetful), nprocs=2, start_method="fork")
"""


def reports(folder: Path, how: str) -> list[dict[str, Any]]:
    """What each of two workers is told of its load."""
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), how],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
        check=True,
    )
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_what_another_worker_wants_is_not_left_over(tmp_path: Path) -> None:
    told = reports(tmp_path, "complete")
    for rank, report in enumerate(told):
        assert report.pop("loaded") == ["everywhere", f"of.{rank}"]
        assert sorted(report["matched"]) == ["everywhere", "of.0", "of.1"]
        assert report["new"] == report["dropped"] == report["other_shape"] == []


def test_what_no_worker_wants_is_told_to_every_worker(tmp_path: Path) -> None:
    first, second = reports(tmp_path, "forgetful")
    assert first["dropped"] == second["dropped"] == ["of.1"]
    assert (first["loaded"], second["loaded"]) == (["everywhere", "of.0"], ["everywhere"])
