"""What the experiments on Census-Income have in common: the paper's run, and its rows."""

import argparse

import pyarrow.parquet as pq

from pipelines.benchmarks.measure import positive_int
from pipelines.census import EPOCHS, SPLITS, add_data_arguments, data_folder, run_tree, write_run
from pipelines.census_archive import LABELS
from pipelines.experiments.shared.command import Asked, experiment_parser
from pipelines.experiments.shared.setting import Setting

SPLIT_SEED = 1


def census_parser(name: str, docstring: str | None, *, seeds: int) -> argparse.ArgumentParser:
    """The command line of an experiment on Census-Income."""
    parser = experiment_parser(name, docstring, seeds=seeds)
    add_data_arguments(parser)
    parser.add_argument("--epochs", type=positive_int, help=f"of a run ({EPOCHS})")
    return parser


def census_setting(asked: Asked) -> Setting:
    """Write the run's YAML, and the Parquet files where the archive's are given.

    Raises:
        UserError: the rows cannot be had.
    """
    options, out = asked.options, asked.out
    epochs = options.epochs or EPOCHS
    data = data_folder(options, out / "data", seed=SPLIT_SEED)
    tree = run_tree(data, storage_path=str(out / "runs"), epochs=epochs)
    write_run(tree, out / "run.yaml")
    rows = {s: pq.read_metadata(data / f"{s}.parquet").num_rows for s in SPLITS}
    return Setting(
        run_yaml=out / "run.yaml",
        train=str(data / "train.parquet"),
        test=str(data / "test.parquet"),
        label_columns=LABELS,
        training=f"{rows['train']:,} training rows, {epochs} epochs",
        judging=f"AUC on {rows['test']:,} test rows of the epoch with the best average AUC on "
        f"{rows['valid']:,} validation rows",
    )
