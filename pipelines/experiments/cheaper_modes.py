"""What the cheaper choices of `gradients` would lose on a run's own data: AUCs side by side.

    python -m pipelines.experiments.cheaper_modes pipelines/runs/census.yaml --seeds 1 2 3

Trains the run with exact GradOPS, with coefficients of every K-th step, and with those of the
representation, once per seed, and prints every task's AUC on data.eval (mean and standard
deviation over the seeds), and in how many of the audited steps the cheaper coefficients would have
gone against a task. Begun again, it goes on where it was: runs that are finished stay as they are.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import fsspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipelines.benchmarks.measure import positive_int


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; a run that fails ends it with that run's status."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.experiments.cheaper_modes",
        description=__doc__.partition("\n")[0],
    )
    parser.add_argument("run_yaml", help="a run whose method is gradops")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--refresh", type=positive_int, default=8, metavar="K")
    parser.add_argument("--storage-path", default="runs/cheaper_modes", help="of all these runs")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        help="override a value of the run, such as cluster.num_workers=0 to train without Ray",
    )
    options = parser.parse_args(arguments)
    results = {
        mode: [
            train(options.run_yaml, options.storage_path, seed, (*sets, *options.set))
            for seed in options.seeds
        ]
        for mode, sets in modes(options.refresh).items()
    }
    Console().print(table(results))


def modes(refresh: int) -> dict[str, tuple[str, ...]]:
    """Settings of the run's YAML by the name of the mode."""
    exact = ("gradients.space=parameters", "gradients.refresh_interval_steps=1")
    return {
        "exact": exact,
        f"refresh {refresh}": (exact[0], f"gradients.refresh_interval_steps={refresh}"),
        "representation": ("gradients.space=representation", exact[1]),
    }


def train(run_yaml: str, storage_path: str, seed: int, sets: tuple[str, ...]) -> dict[str, Any]:
    """Train one run in a folder of its own, or find it finished; its result.json.

    Args:
        sets: settings of the run's YAML; the first two are the mode's and name its folder.
    """
    space, refresh = (setting.rpartition("=")[2] for setting in sets[:2])
    name = f"{space}_refresh{refresh}_seed{seed}"
    command = [sys.executable, "-m", "recsys_mtl", "train", run_yaml]
    for setting in (
        f"run.name={name}",
        f"run.storage_path={storage_path}",
        f"run.seed={seed}",
        *sets,
    ):
        command += ["--set", setting]
    status = subprocess.run(command).returncode
    if status:
        sys.exit(status)  # the run has said why
    with fsspec.open(f"{storage_path}/{name}/result.json") as file:
        return dict(json.load(file))


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """One line per mode, from the result.json of each of its seeds."""
    first = next(iter(results.values()))[0]
    made = Table("mode", *first["tasks"], "opposed", box=SIMPLE_HEAD)
    for mode, of_seeds in results.items():
        aucs = (_over_seeds([r["tasks"][task]["auc"] for r in of_seeds]) for task in first["tasks"])
        opposed, audited = (
            sum(result[f"{kind}_steps"] for result in of_seeds) for kind in ("opposing", "audited")
        )
        made.add_row(mode, *aucs, f"{opposed} of {audited}" if audited else "-")
    return made


def _over_seeds(aucs: Sequence[float | None]) -> str:
    known = [auc for auc in aucs if auc is not None]
    if len(known) < len(aucs):
        return "-"  # a task with labels of one kind only
    return f"{mean(known):.4f}±{stdev(known):.4f}" if len(known) > 1 else f"{known[0]:.4f}"


if __name__ == "__main__":
    main()
