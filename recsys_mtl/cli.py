"""recsys-mtl: the command line, whose commands `commands/` lists.

Exit status: 0 done; 1 a worker, or a cell of a sweep, failed; 2 something the user can mend; 3 what
was judged is worse than it may be (evaluate's gate, verify); 4 the gate cannot tell; 130
interrupted; 143 ended by SIGTERM, after a checkpoint where there was time for one.
"""

import argparse
import sys
from collections.abc import Sequence

from recsys_mtl.commands import (
    check,
    evaluate,
    export,
    init,
    predict,
    recon,
    settings,
    sweep,
    trace,
    train,
    verify,
)
from recsys_mtl.config import UserError
from recsys_mtl.driver.events import choose_format, log_error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    options = _parser().parse_args(arguments)
    choose_format("text")
    try:
        sys.exit(options.command(options))
    except UserError as error:
        log_error("refused", str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        resumes = options.command_name in ("train", "sweep", "recon", "predict")
        what_next = "; the same command goes on from what is there" if resumes else ""
        log_error("interrupted", f"interrupted{what_next}")
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recsys-mtl",
        description="Multi-task training of recommendation models with GradOPS.",
    )
    commands = parser.add_subparsers(dest="command_name", required=True, metavar="COMMAND")
    for command in (
        init,
        check,
        train,
        sweep,
        recon,
        trace,
        evaluate,
        predict,
        export,
        verify,
        settings,
    ):
        command.add_to(commands)
    return parser
