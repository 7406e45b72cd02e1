"""The process of one cell: it trains the run of a YAML file and, where asked, judges it by a log.

    python -m recsys_mtl.driver.sweep.cell_process CELL.yaml
        [--test URL --test-digest DIGEST --answer URL]

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
from collections.abc import Mapping, Sequence
from typing import Any

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
    parser.add_argument("--test-digest", metavar="DIGEST", help="of that log as the sweep knows it")
    parser.add_argument("--answer", metavar="URL", help="the file for what `evaluate` finds there")
    options = parser.parse_args(arguments)
    choose_format("json")
    try:
        config = load_config(options.cell_yaml)
        result = _train(config)
        if options.test is not None:
            _judge(config, result, options.test, options.test_digest, options.answer)
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


def _train(config: RunConfig) -> dict[str, Any]:
    # What this imports takes seconds, and a wrong file is refused without it.
    from recsys_mtl.driver.launch import launch

    return launch(config)


def _judge(
    config: RunConfig, result: Mapping[str, Any], test: str, digest: str | None, answer: str
) -> None:
    """Score the log, and write what is found to the file `answer`."""
    from recsys_mtl.driver.evaluate import evaluate
    from recsys_mtl.driver.sweep.answers import answer_text
    from recsys_mtl.driver.sweep.outcomes import judged_checkpoint

    run_url, chosen = f"{config.run.storage_path}/{config.run.name}", judged_checkpoint(result)
    found = evaluate(run_url, test, checkpoint=chosen, overrides=_scoring(config))
    if digest is not None and found["digest"] != digest:
        raise UserError(
            f"--test {test}: its rows are others than when the sweep began; let the log be as it "
            "is while a sweep is at work, and begin the same command again"
        )
    folder, _, name = answer.rpartition("/")
    Folder(folder).write(name, answer_text(found, result))


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
