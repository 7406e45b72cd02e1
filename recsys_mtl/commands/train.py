"""recsys-mtl train: train, or go on with, the run of a YAML file."""

import argparse
import signal
from collections.abc import Callable

from recsys_mtl.commands.arguments import Commands, add_log_format, add_overrides, add_run_yaml
from recsys_mtl.commands.printing import failed
from recsys_mtl.driver.events import choose_format, log_error


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser("train", help="train, or go on with, the run of a YAML file")
    add_run_yaml(parser)
    add_overrides(parser, "override a value of the file; may be given several times")
    add_log_format(parser)
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="delete what an earlier run of this name left, checkpoints included, and start anew; "
        "not for a job that is retried, where each retry would begin from nothing",
    )
    parser.set_defaults(command=train)


def train(options: argparse.Namespace) -> int:
    """Train to the end of the run."""
    from recsys_mtl.config.file import load_config

    choose_format(options.log_format)
    config = load_config(options.run_yaml, tuple(options.set))
    from recsys_mtl.driver.launch import launch

    return status_of(lambda: launch(config, fresh=options.fresh))


def status_of(training: Callable[[], object]) -> int:
    """Train, tell what ends it early, and return the exit status."""
    from recsys_mtl.driver.lease import LeaseError
    from recsys_mtl.driver.preemption import PreemptionError
    from recsys_mtl.driver.runner import TrainingError

    try:
        training()
    except (TrainingError, LeaseError) as error:
        return failed(error)
    except PreemptionError as error:
        log_error("preempted", str(error))
        return 128 + signal.SIGTERM
    return 0
