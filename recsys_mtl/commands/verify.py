"""recsys-mtl verify: compare the probabilities that a server logged with a bundle's."""

import argparse
import math

from recsys_mtl.commands.arguments import Commands
from recsys_mtl.driver.events import log_error, log_event

DIFFERS = 3
"""Exit status where a logged probability is not the bundle's."""


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "verify", help="compare the probabilities that a server logged with a bundle's"
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="the folder that export wrote")
    parser.add_argument(
        "--log",
        required=True,
        metavar="URL",
        help="rows as they were served, with a column probability_TASK of at least one task: a "
        "Parquet file, folder or glob",
    )
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=1e-5,
        metavar="X",
        help="largest difference of two probabilities that counts as none (default: 1e-5)",
    )
    parser.set_defaults(command=verify)


def _tolerance(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def verify(options: argparse.Namespace) -> int:
    """Compare, and say where they differ most."""
    from recsys_mtl.serving.scorer import Scorer
    from recsys_mtl.serving.verification import verify_log

    scorer = Scorer.load(options.bundle)
    found = verify_log(scorer, options.log, options.tolerance)
    what = f"{found.rows:,} rows of {', '.join(found.compared)}"
    fields = {
        "rows": found.rows,
        "compared": found.compared,
        "not_logged": found.not_logged,
        "largest_difference": found.largest,
    }
    if missing := [task for task in scorer.bundle.tasks if task not in found.compared]:
        log_event("note", f"no probability of {', '.join(missing)} was logged: not compared")
    if found.not_logged:
        log_event("note", f"{found.not_logged:,} logged probabilities are null: not compared")
    if found.is_equal:
        log_event("verified", f"{what}: largest difference {found.largest:.2g}", **fields)
        return 0
    counts = ", ".join(f"{count:,} of {task}" for task, count in found.beyond.items())
    worst = "; ".join(
        f"row {d.row} of {d.file}, {d.task}: logged {d.logged:.6f}, the bundle says {d.scored:.6f}"
        for d in found.worst
    )
    log_error(
        "differs",
        f"{what}: {counts} differ by more than {options.tolerance:g}, the most by "
        f"{found.largest:.2g} ({worst})",
        beyond=found.beyond,
        worst=[vars(difference) for difference in found.worst],
        **fields,
    )
    return DIFFERS
