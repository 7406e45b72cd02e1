"""recsys-mtl sweep: train a grid of settings with several seeds, compare them, choose one."""

import argparse
import signal
from typing import Any

from recsys_mtl.commands.arguments import Commands, add_run_yaml
from recsys_mtl.commands.printing import failed, print_lines
from recsys_mtl.driver.events import choose_format, is_json, log_error, log_event

_MOST_SEEDS = 1_000  # a slip of the finger should not plan runs for hours


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "sweep", help="train a grid of settings with several seeds, compare them, choose one"
    )
    add_run_yaml(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=VALUE,VALUE",
        help="the values of a setting, one arm each; several --set make every combination. Values "
        "are cut at commas outside of brackets and quotes: model.bottom_hidden_sizes=[64,32],[128]",
    )
    parser.add_argument(
        "--for-all",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        help="override a value of the file in every arm; it is not cut at commas",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="train every arm N times, from the file's run.seed on (default: 1)",
    )
    parser.add_argument(
        "--single-task",
        action="store_true",
        help="add the arm 'single-task': per seed, one run for each label alone",
    )
    parser.add_argument(
        "--baseline",
        metavar="ARM",
        help="compare with this arm; by default single-task where it is there, else the first",
    )
    parser.add_argument(
        "--test",
        metavar="URL",
        help="a log that judges every arm, or with --choose the chosen one and the baseline, once",
    )
    parser.add_argument(
        "--choose",
        metavar="RULE",
        help="'max wish subject to purchase >= baseline - 0.0005': the arm that is best so on "
        "data.eval",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="where everything is kept (default: <run.storage_path>/<run.name>-sweep)",
    )
    parser.add_argument(
        "--parallel",
        type=int,
        metavar="N",
        help="most cells at a time (default: one without Ray, on Ray as many as have room)",
    )
    parser.add_argument(
        "--log-format",
        choices=("auto", "text", "json"),
        default="auto",
        help="sentences, or one JSON object per line; auto: JSON where the output is no terminal",
    )
    parser.set_defaults(command=sweep_arms)


def sweep_arms(options: argparse.Namespace) -> int:
    """Train what is not finished, and show how the arms compare."""
    from recsys_mtl.config import UserError
    from recsys_mtl.config.file import load_config
    from recsys_mtl.driver.sweep.arms import SINGLE_TASK, Arm, grid

    choose_format(options.log_format)
    if not 1 <= options.seeds <= _MOST_SEEDS:
        raise UserError(f"--seeds {options.seeds}: give 1 to {_MOST_SEEDS:,}")
    arms, fixed = grid(options.set)
    if options.single_task:
        arms.append(Arm(SINGLE_TASK, fixed, single_task=True))
    run = load_config(options.run_yaml, tuple(options.for_all)).run
    from recsys_mtl.driver.lease import LeaseError
    from recsys_mtl.driver.preemption import PreemptionError
    from recsys_mtl.driver.sweep import sweep

    try:
        record = sweep(
            options.run_yaml,
            arms,
            seeds=[run.seed + number for number in range(options.seeds)],
            folder=f"{run.storage_path}/{run.name}-sweep" if options.out is None else options.out,
            overrides=options.for_all,
            baseline=options.baseline,
            test=options.test,
            choose=options.choose,
            parallel=options.parallel,
        )
    except LeaseError as error:
        return failed(error)
    except PreemptionError as error:
        log_error("preempted", str(error))
        return 128 + signal.SIGTERM
    return _show(record)


def _show(record: dict[str, Any]) -> int:
    """Print the tables and what was chosen; the exit status."""
    from recsys_mtl.driver.sweep.report import choice_sentences, failure_sentences, terminal_tables

    for log in ("eval", "test"):
        if not is_json() and any(arm[log] for arm in record["arms"]):
            print_lines(terminal_tables(record, log))
    for choice in record["choices"]:
        for sentence in choice_sentences(choice):
            log_event("choice", sentence)
    if len(record["seeds"]) < 2:
        log_event("note", "with one seed there are no intervals; --seeds 5 or more gives them")
    log_event(
        "result",
        f"everything is in {record['url']}: sweep.md, .json, .png",
        url=record["url"],
        arms=record["arms"],
        choices=record["choices"],
    )
    failures = list(failure_sentences(record["cells"]))
    for sentence in failures:
        log_error("failed", sentence)
    return 1 if failures else 0
