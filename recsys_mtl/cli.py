"""recsys-mtl check | train: the command line.

Exit status: 0 done; 1 training failed; 2 something the user can mend; 130 interrupted; 143 ended by
SIGTERM, after a checkpoint where there was time for one.
"""

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.events import choose_format, log_error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    options = _parser().parse_args(arguments)
    choose_format(options.log_format if options.command == "train" else "text")
    try:
        config = load_config(options.run_yaml, tuple(options.set))
        sys.exit(_check(config) if options.command == "check" else _train(config, options.fresh))
    except UserError as error:
        log_error("refused", str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        log_error("interrupted", "interrupted; the same command goes on from the last checkpoint")
        sys.exit(130)


def _check(config: RunConfig) -> int:
    """Validate without Ray and without training."""
    from recsys_mtl.driver.log_summary import show_log  # slow to import, and only for a valid file

    for part, url in (("train", config.data.train), ("eval", config.data.eval)):
        show_log(part, url, config)
    return 0


def _train(config: RunConfig, fresh: bool) -> int:
    from recsys_mtl.driver.launch import launch
    from recsys_mtl.driver.lease import LeaseError
    from recsys_mtl.driver.preemption import PreemptionError
    from recsys_mtl.driver.runner import TrainingError

    try:
        launch(config, fresh=fresh)
    except (TrainingError, LeaseError) as error:
        log_error("failed", _with_cause(error))
        return 1
    except PreemptionError as error:
        log_error("preempted", str(error))
        return 128 + signal.SIGTERM
    return 0


def _with_cause(error: Exception) -> str:
    """Return what an error says, and the traceback of the one in this process that caused it."""
    if error.__cause__ is None:
        return str(error)
    return f"{error}\n{''.join(traceback.format_exception(error.__cause__))}".rstrip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recsys-mtl",
        description="Multi-task training of recommendation models with GradOPS.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="validate a run's YAML and its data; train nothing")
    train = commands.add_parser("train", help="train, or go on with, the run of a YAML file")
    for command in (check, train):
        command.add_argument("run_yaml", metavar="RUN.yaml", help="the run's configuration")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="A.B=VALUE",
            help="override a value of the file; may be given several times",
        )
    train.add_argument(
        "--log-format",
        choices=("auto", "text", "json"),
        default="auto",
        help="sentences, or one JSON object per line; auto: JSON where the output is no terminal",
    )
    train.add_argument(
        "--fresh",
        action="store_true",
        help="delete what an earlier run of this name left, checkpoints included, and start anew; "
        "not for a job that is retried, where each retry would begin from nothing",
    )
    return parser
