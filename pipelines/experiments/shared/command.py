"""What all experiments over sweeps have in common: options, the report's files, the exit status."""

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.benchmarks.measure import positive_int
from recsys_mtl.config import UserError
from recsys_mtl.driver.events import finite
from recsys_mtl.driver.lease import LeaseError
from recsys_mtl.driver.preemption import PreemptionError
from recsys_mtl.driver.runner import TrainingError
from recsys_mtl.driver.sweep import Arm, sweep

_OWN = ("run", "method", "data.train", "data.eval")
"""Settings and sections that the experiments set in every run, so that --set changes nothing, or
makes the report say what was not done."""
_MOST_NAMED = 5  # unfinished runs in a sentence


@dataclass(frozen=True)
class Experiment:
    """One command."""

    name: str
    """Of its module, and of the files of its report."""
    title: str
    """The heading of its report."""
    run: Callable[["Asked"], "Report"]
    """Runs it."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    name: str
    """The experiment's."""
    options: argparse.Namespace
    out: Path
    seeds: list[int]
    command: str
    """As it was typed, for the report."""

    @property
    def picture(self) -> Path:
        """Where the experiment draws what it found."""
        return self.out / f"{self.name}.png"

    def sweep(
        self, run_yaml: Path, arms: Sequence[Arm], folder: str, **more: Any
    ) -> dict[str, Any]:
        """Train the arms, or find them finished, in a folder of their own below `out`.

        Args:
            more: of `sweep`; by default the seeds and settings of the command line.
        """
        asked = {
            "seeds": self.seeds,
            "overrides": tuple(self.options.set),
            "parallel": self.options.parallel,
        }
        return sweep(str(run_yaml), arms, folder=str(self.out / folder), **(asked | more))

    def stage(
        self, run_yaml: Path, arms: Sequence[Arm], folder: str, **more: Any
    ) -> dict[str, Any]:
        """A sweep by which the next one is decided on, so that all of it has to be there.

        A choice among the runs that happen to be finished would be another one once the others are.

        Raises:
            TrainingError: a run of it is not finished.
        """
        found = self.sweep(run_yaml, arms, folder, **more)
        missing = failed_cells([found])
        if missing:
            named = [*missing[:_MOST_NAMED], *(["..."] if len(missing) > _MOST_NAMED else [])]
            raise TrainingError(
                f"what comes next is decided by all runs of {self.out / folder}, and "
                f"{len(missing)} of {len(found['cells'])} are not finished: {'; '.join(named)}. "
                f"What they printed is in {self.out / folder}/cells; the same command trains them"
            )
        return found


@dataclass(frozen=True)
class Report:
    """What an experiment found."""

    markdown: str
    """Its tables, and what was run, in words."""
    content: Mapping[str, Any]
    """All numbers, for the JSON file."""
    sweeps: Sequence[Mapping[str, Any]]
    """What each of its sweeps returned."""


def experiment_parser(name: str, docstring: str | None, *, seeds: int) -> argparse.ArgumentParser:
    """A command line with --seeds, --out, --parallel and --set."""
    assert docstring is not None, "every experiment says what it is"
    parser = argparse.ArgumentParser(
        prog=f"python -m pipelines.experiments.{name}", description=docstring.partition("\n")[0]
    )
    parser.add_argument(
        "--seeds",
        type=positive_int,
        default=seeds,
        metavar="N",
        help="how many: from 1 on (%(default)s)",
    )
    parser.add_argument("--out", type=Path, help=f"folder of its runs and its report (runs/{name})")
    parser.add_argument(
        "--parallel", type=positive_int, default=1, metavar="P", help="runs at once (%(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        help="override a setting of every run",
    )
    return parser


def run(
    experiment: Experiment, parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> int:
    """Run an experiment and write its report, `<out>/<name>.md` and `.json`.

    Begun again, it goes on where it was: runs that are finished stay as they are.

    Returns:
        0; 1 where a run has failed, which the report names, or another command is at work in the
        folder; 2 after one sentence about something that the user can mend; 130 interrupted; 143
        ended by SIGTERM.
    """
    options = parser.parse_args(arguments)
    _refuse_what_experiments_set(parser, options.set)
    typed = sys.argv[1:] if arguments is None else list(arguments)
    # An experiment that runs on either log has a folder for each.
    folder = "_".join([experiment.name, *([options.log] if "log" in options else [])])
    out = options.out or Path("runs") / folder
    asked = Asked(
        experiment.name,
        options,
        out,
        list(range(1, options.seeds + 1)),
        shlex.join(["python", "-m", f"pipelines.experiments.{experiment.name}", *typed]),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = experiment.run(asked)
        _write(experiment, asked, found)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"--out {out} cannot be written: {error}", file=sys.stderr)
        return 2
    except (TrainingError, LeaseError) as error:
        print(error, file=sys.stderr)
        return 1
    except PreemptionError as error:
        print(error, file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from what is there", file=sys.stderr)
        return 128 + signal.SIGINT
    return 1 if failed_cells(found.sweeps) else 0


def _refuse_what_experiments_set(parser: argparse.ArgumentParser, overrides: Sequence[str]) -> None:
    """End with a sentence where --set names what every run of an experiment has of its own."""
    for override in overrides:
        key = override.partition("=")[0].strip()
        if any(f"{key}.".startswith(f"{own}.") or own.startswith(f"{key}.") for own in _OWN):
            parser.error(
                f"--set {override}: the experiment sets {key} itself, in every run; leave it out"
            )


def _write(experiment: Experiment, asked: Asked, found: Report) -> None:
    markdown = f"## {experiment.title}\n\n`{asked.command}`\n\n{found.markdown}"
    failed = failed_cells(found.sweeps)
    if failed:
        markdown += f"\nNot finished, and in no number above: {', '.join(failed)}.\n"
    content = {"experiment": experiment.name, "command": asked.command, "seeds": asked.seeds}
    text = json.dumps(finite(content | dict(found.content)), indent=2)
    (asked.out / f"{experiment.name}.json").write_text(text + "\n")
    (asked.out / f"{experiment.name}.md").write_text(markdown)
    print(markdown)


def failed_cells(sweeps: Sequence[Mapping[str, Any]]) -> list[str]:
    """`arm, seed N` of every run that is not finished."""
    return [
        f"{cell['arm']}, seed {cell['seed']}"
        for found in sweeps
        for cell in found["cells"]
        if cell["status"] != "finished"
    ]
