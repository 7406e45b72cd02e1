"""recsys-mtl predict: score every row of a log with a trained run."""

import argparse

from recsys_mtl.commands.arguments import Commands, add_overrides, add_run
from recsys_mtl.commands.printing import failed
from recsys_mtl.driver.events import log_event


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser("predict", help="score every row of a log with a trained run")
    add_run(parser)
    parser.add_argument(
        "--data", metavar="URL", required=True, help="the log: a Parquet file, folder or glob"
    )
    parser.add_argument(
        "--out",
        metavar="URL",
        required=True,
        help="the folder for one Parquet file per input file, of the same name, with a column "
        "probability_<task> per task; a start that was cut off goes on there",
    )
    parser.add_argument(
        "--keep",
        metavar="COLUMN",
        action="append",
        default=[],
        help="a column of the log to stand beside them; may be given several times",
    )
    add_overrides(
        parser,
        "override a setting that only says how to score, such as cluster.num_workers=0; may be "
        "given several times",
    )
    parser.set_defaults(command=predict_log)


def predict_log(options: argparse.Namespace) -> int:
    """Predict, and say what is there now."""
    from recsys_mtl.driver.lease import LeaseError
    from recsys_mtl.driver.predict import predict
    from recsys_mtl.driver.runner import TrainingError

    try:
        found = predict(
            options.run,
            options.data,
            options.out,
            keep=options.keep,
            checkpoint=options.checkpoint,
            overrides=options.set,
        )
    except (TrainingError, LeaseError) as error:
        return failed(error)
    before = f", {found['files_before']:,} of them there before" if found["files_before"] else ""
    log_event(
        "predicted",
        f"{found['rows']:,} rows in {found['files']:,} file(s){before}: {found['out']}",
        **found,
    )
    return 0
