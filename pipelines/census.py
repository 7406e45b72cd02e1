"""UCI Census-Income (KDD) in the GradOPS paper's setting: Parquet files and a run's YAML.

    python -m pipelines.census --csv-train census-income.data --csv-test census-income.test \
        --out data/census
    python -m pipelines.census --data ../shared/data/census_income --out data/census
    recsys-mtl train data/census/run.yaml

The first form reads the archive's two files as downloaded. It writes all rows of the training file
to `train.parquet`, halves the test file at random into `valid.parquet` and `test.parquet`, as the
paper does, and writes `run.yaml`. The second form takes a folder that has the three Parquet files
and writes `run.yaml` alone. Equal arguments give equal files.

The run is the paper's where the paper says what it did: two layers of 192, batches of 1,024, Adam
at 1e-4 for everything, 200 epochs, the epoch with the best average AUC on the validation rows.
Three things differ, or are not said there:

- Columns of words are one-hot inputs with the values of the training rows; numbers are brought to
  mean 0 and standard deviation 1 of the training rows, amounts of money after log1p. The paper does
  not say how columns enter its network, and counts 40 features; here are 38, as the archive's 41
  without the survey weight and the two that hold a label.
- Dropout of 0.3 follows both layers. The paper has one dropout layer and does not say where.
- An epoch's last batch is filled up with rows that count nothing, so no row is left out.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from pipelines.census_archive import ANSWERS, COLUMNS, LABELS, NUMBERS, read_archive
from recsys_mtl.config import UserError
from recsys_mtl.data.plan import Plan

SPLITS = ("train", "valid", "test")
ROW_GROUP_ROWS = 8192
LANES = 8
WEIGHT = "instance_weight"
AMOUNTS = ("wage_per_hour", "capital_gains", "capital_losses", "dividends_from_stocks")
"""Money: most are 0, some are a thousand times the median of the others."""
BATCH_ROWS = 1024
EPOCHS = 200


def split_archive(csv_train: Path, csv_test: Path, out: Path, *, seed: int) -> None:
    """Write the archive's two files as `train.parquet`, `valid.parquet` and `test.parquet`.

    Args:
        out: a folder, which is made.
        seed: of the halving of the test file.

    Raises:
        UserError: a file is not the archive's.
    """
    train, judged = read_archive(csv_train), read_archive(csv_test)
    order = np.random.default_rng(seed).permutation(judged.num_rows)
    half = judged.num_rows // 2
    out.mkdir(parents=True, exist_ok=True)
    for split, rows in (
        ("train", train),
        ("valid", judged.take(np.sort(order[:half]))),
        ("test", judged.take(np.sort(order[half:]))),
    ):
        path = out / f"{split}.parquet"
        pq.write_table(rows, path, row_group_size=ROW_GROUP_ROWS, compression="zstd")


def run_tree(data: Path, *, storage_path: str, epochs: int = EPOCHS) -> dict[str, Any]:
    """The paper's run over a folder with the three Parquet files, as a run's YAML holds it.

    Args:
        data: the folder; features are made from its training rows.
        storage_path: where runs are kept.
        epochs: passes over the training rows.

    Raises:
        UserError: the folder lacks a file, or a file a column.
    """
    rows = _read_train(data)
    plan = Plan(
        row_counts=(rows.num_rows,),
        lanes=LANES,
        global_batch_size=BATCH_ROWS,
        window_row_groups=1,
        seed=None,
    )
    steps_per_epoch = plan.steps_per_epoch
    return {
        "run": {"name": "census", "storage_path": storage_path, "seed": 1},
        "data": {
            "train": str(data / "train.parquet"),
            "eval": str(data / "valid.parquet"),
            "lanes": LANES,
            "features": features_of(rows),
            "labels": dict(LABELS),
        },
        "model": {"bottom_hidden_sizes": [192, 192], "dropout": 0.3},
        "method": {"kind": "gradops", "alpha": -3.0},
        "optimizer": {"dense": {"kind": "adam", "learning_rate": 1e-4}},
        "training": {
            "global_batch_size": BATCH_ROWS,
            "epochs": epochs,
            "log_interval_steps": steps_per_epoch,
            "evaluation_interval_steps": steps_per_epoch,
            "best_by": "mean_auc",
            "checkpoint_interval_steps": None,
            "checkpoints_kept": 1,
        },
        "cluster": {"num_workers": 0},
    }


def features_of(rows: pa.Table) -> dict[str, dict[str, Any]]:
    """Feature to its settings, from the training rows: one per column that holds no answer."""
    answers = {answer.column for answer in ANSWERS}
    features: dict[str, dict[str, Any]] = {}
    for name in COLUMNS:
        if name in answers or name == WEIGHT:
            continue
        if name in NUMBERS:
            features[name] = _standardised(name, rows[name])
        else:
            values = pc.unique(rows[name]).drop_null().to_pylist()
            features[name] = {"kind": "one_hot", "vocabulary": sorted(values)}
    return features


def _standardised(name: str, column: pa.ChunkedArray) -> dict[str, Any]:
    """The settings that bring a column of numbers to mean 0 and standard deviation 1."""
    values = column.to_numpy().astype(np.float64)
    settings: dict[str, Any] = {"kind": "dense"}
    if name in AMOUNTS:
        values = np.log1p(values)
        settings["transform"] = "log1p"
    mean, std = float(np.nanmean(values)), float(np.nanstd(values))
    # A column of one value, as few rows may have, tells nothing, whatever divides it.
    return settings | {"mean": round(mean, 6), "std": round(std, 6) or 1.0}


def _read_train(data: Path) -> pa.Table:
    for split in SPLITS:
        path = data / f"{split}.parquet"
        if not path.is_file():
            raise UserError(
                f"{path} is no file; give a folder with {', '.join(f'{s}.parquet' for s in SPLITS)}"
                ", or the archive's two files"
            )
    path = data / "train.parquet"
    lacking = {*COLUMNS, *LABELS.values()} - set(pq.read_schema(path).names)
    if lacking:
        raise UserError(
            f"{path} lacks the columns {', '.join(sorted(lacking))}; give Census-Income under its "
            "usual column names, or the archive's two files"
        )
    return pq.read_table(path)


def write_run(tree: Mapping[str, Any], path: Path) -> None:
    """Write a run's YAML."""
    heading = "# Census-Income in the setting of the GradOPS paper; see pipelines/census.py.\n"
    text = yaml.safe_dump(dict(tree), sort_keys=False, width=100, default_flow_style=None)
    path.write_text(heading + text)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """--data, --csv-train and --csv-test: where the rows come from."""
    where = parser.add_argument_group("data, one of the two forms")
    where.add_argument("--data", type=Path, help="folder with train, valid and test .parquet")
    where.add_argument("--csv-train", type=Path, help="census-income.data, plain or .gz")
    where.add_argument("--csv-test", type=Path, help="census-income.test, plain or .gz")


def data_folder(options: argparse.Namespace, out: Path, *, seed: int) -> Path:
    """The folder of Parquet files that the options name; made below `out` where they name CSV.

    Raises:
        UserError: they name neither form, or both, or files that are not the archive's.
    """
    csv_train, csv_test = options.csv_train, options.csv_test
    if (options.data is None) == (csv_train is None) or (csv_train is None) != (csv_test is None):
        raise UserError(
            "say where the rows are: either --data FOLDER, or both --csv-train FILE and "
            "--csv-test FILE"
        )
    if options.data is not None:
        return Path(options.data)
    split_archive(csv_train, csv_test, out, seed=seed)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0, or 2 after one sentence about arguments that cannot be met."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.census",
        description=__doc__.partition("\n")[0],
    )
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--storage-path", default="runs", help="of the run (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the halving (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = data_folder(options, options.out, seed=options.seed)
        write_run(run_tree(data, storage_path=options.storage_path), options.out / "run.yaml")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"--out {options.out} cannot be written: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}/run.yaml: train it with recsys-mtl train")
    return 0


if __name__ == "__main__":
    sys.exit(main())
