"""recsys-mtl evaluate: judge a trained run by a log, alone or against another run.

Exit status: 0 done, and with --max-auc-drop no task's AUC is lower by more; 3 one is; 4 that cannot
be told with these rows.
"""

import argparse
import json
from pathlib import Path

from recsys_mtl.commands.arguments import Commands, add_overrides, add_run
from recsys_mtl.commands.printing import failed


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "evaluate", help="judge a trained run by a log, alone or against another run"
    )
    add_run(parser)
    parser.add_argument(
        "--data", metavar="URL", help="the log: a Parquet file, folder or glob; else data.eval"
    )
    parser.add_argument(
        "--group-by",
        metavar="COLUMN",
        help="add GAUC: AUC among the rows of each value (a user, say), weighted by their number",
    )
    parser.add_argument(
        "--slices",
        metavar="COLUMN",
        action="append",
        default=[],
        help="a table with a line per value of this column; may be given several times",
    )
    parser.add_argument(
        "--against",
        metavar="OTHER_RUN",
        help="the folder or URL of a run that scores the same rows: the one that serves now, say",
    )
    parser.add_argument(
        "--against-checkpoint",
        default="last",
        metavar="last|best|NAME",
        help="which one of OTHER_RUN (default: last)",
    )
    parser.add_argument(
        "--max-auc-drop",
        metavar="DROP",
        type=float,
        help="the gate: status 0 only if every task's AUC is certainly (95 %%) lower than "
        "OTHER_RUN's by less than this; 3 one is certainly lower by more; 4 cannot be told",
    )
    parser.add_argument("--json", metavar="FILE", help="write every number there")
    add_overrides(
        parser,
        "override a setting that only says how to score, such as cluster.num_workers=0; may be "
        "given several times",
    )
    parser.set_defaults(command=evaluate_run)


def evaluate_run(options: argparse.Namespace) -> int:
    """Evaluate, print, and judge."""
    from recsys_mtl.config import UserError

    if (options.max_auc_drop is None) != (options.against is None):
        raise UserError("--against and --max-auc-drop are one gate; give both or neither")
    if options.json is not None:
        try:  # before hours of scoring
            Path(options.json).touch()
        except OSError as error:
            raise UserError(f"--json {options.json} cannot be written: {error.strerror}") from None
    from recsys_mtl.driver.evaluate import evaluate, show_evaluation
    from recsys_mtl.driver.runner import TrainingError

    try:
        found = evaluate(
            options.run,
            options.data,
            checkpoint=options.checkpoint,
            group_by=options.group_by,
            slices=options.slices,
            against_url=options.against,
            against_checkpoint=options.against_checkpoint,
            max_auc_drop=options.max_auc_drop,
            overrides=options.set,
        )
    except TrainingError as error:
        return failed(error)
    show_evaluation(found)
    if options.json is not None:
        Path(options.json).write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    return int(found["gate"]["exit_status"]) if "gate" in found else 0
