"""What a daily job that begins with yesterday's model loses beside training on all days anew.

    python -m pipelines.synthetic_clicks --out data/drift --rows 300000 --seed 1 --drift --days 5
    python -m pipelines.experiments.day_to_day pipelines/runs/demo.yaml --log data/drift

Trains one run per day, each on its day alone and, from the second on, with a warm start from the
run of the day before; and one run on all days from random values. Prints every task's AUC on the
evaluation log, which follows the last day. Begun again, it goes on where it was.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; a run that fails ends it with that run's status."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.experiments.day_to_day",
        description=__doc__.partition("\n")[0],
    )
    parser.add_argument("run_yaml", help="the run to train, with any data")
    parser.add_argument("--log", type=Path, required=True, help="train/<day>/ and eval/")
    parser.add_argument("--storage-path", type=Path, default=Path("runs/day_to_day"))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        help="override a value of every run, such as cluster.num_workers=0 to train without Ray",
    )
    options = parser.parse_args(arguments)
    days = sorted(path for path in (options.log / "train").iterdir() if path.is_dir())
    if len(days) < 2:
        sys.exit(f"{options.log}/train has {len(days)} folders of days; give a log of two or more")
    results, before = {}, None
    for day in days:
        sets = list(options.set)
        if before is not None:
            sets.append(f"run.warm_start={{from: {before}}}")
        results[day.name] = train(options, day.name, day, sets)
        before = options.storage_path.absolute() / day.name
    results["all days"] = train(options, "all_days", options.log / "train", options.set)
    Console().print(table(results))


def train(options: argparse.Namespace, name: str, log: Path, sets: Sequence[str]) -> dict[str, Any]:
    """Train one run, or find it finished; its result.json."""
    own = (
        f"run.name={name}",
        f"run.storage_path={options.storage_path}",
        f"data.train={log}",
        f"data.eval={options.log / 'eval'}",
    )
    command = [sys.executable, "-m", "recsys_mtl", "train", options.run_yaml]
    done = subprocess.run([*command, *(word for o in (*own, *sets) for word in ("--set", o))])
    if done.returncode:
        sys.exit(done.returncode)
    return dict(json.loads((options.storage_path / name / "result.json").read_text()))


def table(results: dict[str, dict[str, Any]]) -> Table:
    """A line per run: its rows, and each task's AUC."""
    lines = Table(box=SIMPLE_HEAD)
    tasks = list(next(iter(results.values()))["tasks"])
    for column in ("trained on", "rows", *tasks):
        lines.add_column(column, justify="left" if column == "trained on" else "right")
    for name, result in results.items():
        numbers = (f"{result['tasks'][task]['auc']:.4f}" for task in tasks)
        lines.add_row(name, f"{result['rows']:,}", *numbers)
    return lines


if __name__ == "__main__":
    main()
