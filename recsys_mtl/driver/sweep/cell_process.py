"""The process of one cell: it trains the run of a YAML file and, where asked, judges it by a log.

    python -m recsys_mtl.driver.sweep.cell_process CELL.yaml [--test URL --answer URL]

A process of its own, so that what crashes it, or the system when memory is short, ends this cell
alone. It ends when its standard input does, which the sweep holds open: also where the sweep was
killed, the run takes a checkpoint and leaves. Exit status: that of `recsys-mtl train`.
"""

import argparse
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.events import choose_format, log_error
from recsys_mtl.driver.lease import LeaseError
from recsys_mtl.driver.preemption import PreemptionError
from recsys_mtl.driver.runner import TrainingError
from recsys_mtl.driver.storage import Folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, judge, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m recsys_mtl.driver.sweep.cell_process")
    parser.add_argument("cell_yaml", metavar="CELL.yaml")
    parser.add_argument("--test", metavar="URL", help="the log that judges the run")
    parser.add_argument("--answer", metavar="URL", help="the file for what `evaluate` finds there")
    options = parser.parse_args(arguments)
    choose_format("json")
    try:
        _train_and_judge(load_config(options.cell_yaml), options.test, options.answer)
    except UserError as error:
        log_error("refused", str(error))
        return 2
    except (TrainingError, LeaseError) as error:
        cause = "" if error.__cause__ is None else traceback.format_exception(error.__cause__)
        log_error("failed", f"{error}\n{''.join(cause)}".rstrip())
        return 1
    except PreemptionError as error:
        log_error("preempted", str(error))
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        log_error("interrupted", "interrupted")
        return 128 + signal.SIGINT
    return 0


def _train_and_judge(config: RunConfig, test: str | None, answer: str | None) -> None:
    # What these import takes seconds, and a wrong file is refused without it.
    from recsys_mtl.driver.evaluate import evaluate
    from recsys_mtl.driver.launch import launch
    from recsys_mtl.driver.sweep.outcomes import judged_checkpoint

    result = launch(config)
    if test is None or answer is None:
        return
    run_url, chosen = f"{config.run.storage_path}/{config.run.name}", judged_checkpoint(result)
    found = evaluate(run_url, test, checkpoint=chosen, overrides=_scoring(config))
    folder, _, name = answer.rpartition("/")
    Folder(folder).write(name, json.dumps(found, indent=2, allow_nan=False).encode())


def _scoring(config: RunConfig) -> tuple[str, ...]:
    """Score where this call trains: the checkpoint may be of a cluster of another size."""
    return (f"cluster={json.dumps(config.cluster.model_dump(mode='json'))}",)


def end_with_standard_input() -> None:
    """Send this process SIGTERM once the other end of its standard input is closed."""

    def watch() -> None:
        # Not sys.stdin: a thread that waits inside of it holds a lock that the exit needs.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    end_with_standard_input()
    sys.exit(main())
