"""A synthetic click log whose tasks conflict and whose best possible AUC is known.

    python -m pipelines.synthetic_clicks --out data/demo --rows 300000 --seed 1

One row a click: 46 features (27 single ids, a list of ids, 18 dense values) and the binary labels
purchase, cart and wish. Written: `train/part-*.parquet`, `eval/part-*.parquet` and, last,
`truth.json` with the AUC that the true probabilities reach on the eval labels, the best a model
can hope for. Rows are drawn and written one row group at a time, so memory does not grow with the
train rows. Equal arguments give equal rows; parts of an earlier log in the folder are removed.

    python -m pipelines.synthetic_clicks --out data/days --rows 300000 --seed 1 --drift --days 5

writes a log that changes from day to day (see synthetic_drift.py): the train rows, evenly, to
`train/day-01/part-*.parquet` up to `train/day-05/`; the eval rows are of the day after the last.
`--task-correlation` and `--rates` say how far the tasks pull apart, and how rare each is; see
synthetic_tasks.py.
"""

# B rows of a row group, T tasks.

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.synthetic_drift import ids_by_rank
from pipelines.synthetic_tasks import DEMO, TASKS, FloatArray, TaskRelation
from pipelines.synthetic_world import (
    DENSE_COLUMNS,
    ID_COLUMNS,
    RECENT_CATEGORIES,
    RECENT_CATEGORIES_LENGTH,
    BoolArray,
    Clicks,
    DenseColumn,
    IntArray,
    Split,
    World,
    build_world,
    draw_clicks,
    generator,
    probabilities_of,
    sigmoid,
)

_DEFAULT_DAYS = 5

SCHEMA = pa.schema(
    [
        *((column.name, pa.string() if column.vocabulary else pa.int64()) for column in ID_COLUMNS),
        (RECENT_CATEGORIES, pa.list_(pa.int64())),
        *((column.name, pa.float32()) for column in DENSE_COLUMNS),
        *((task, pa.int8()) for task in TASKS),
    ]
)


def to_table(clicks: Clicks, labels: BoolArray) -> pa.Table:
    """The rows of B clicks with their labels [B, T], in the types of SCHEMA."""
    columns: dict[str, pa.Array] = {}
    for column in ID_COLUMNS:
        ids = pa.array(clicks.ids[column.name], mask=clicks.nulls.get(column.name))
        columns[column.name] = pa.array(column.vocabulary).take(ids) if column.vocabulary else ids
    offsets = np.concatenate([[0], np.cumsum(clicks.recent_lengths)]).astype(np.int32)
    counted = np.arange(RECENT_CATEGORIES_LENGTH) < clicks.recent_lengths[:, None]
    columns[RECENT_CATEGORIES] = pa.ListArray.from_arrays(offsets, clicks.recent[counted])
    for dense in DENSE_COLUMNS:
        values = dense_values(dense, clicks.normals[dense.name]).astype(np.float32)
        columns[dense.name] = pa.array(values, mask=clicks.nulls.get(dense.name))
    for index, task in enumerate(TASKS):
        columns[task] = pa.array(labels[:, index].astype(np.int8))
    return pa.table(columns, schema=SCHEMA)


def dense_values(column: DenseColumn, normals: FloatArray) -> FloatArray:
    """Turns z [B] into the column's values [B]; see DenseColumn."""
    shifted = column.mean + column.std * normals
    if column.kind == "rate":
        return sigmoid(shifted)
    amounts: FloatArray = np.expm1(np.maximum(shifted, 0.0))
    return np.round(amounts) if column.kind == "count" else amounts


def auc(scores: FloatArray, labels: BoolArray) -> float | None:
    """Area under the ROC curve by ranks, ties with half credit; None when one class is absent."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle_ranks = np.cumsum(counts) - (counts - 1) / 2
    above = middle_ranks[inverse][labels].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def write_split(
    world: World,
    folder: Path,
    split: Split,
    *,
    rows: int,
    seed: int,
    files: int,
    row_group_rows: int,
    day: int | None = None,
    days: int | None = None,
) -> Iterator[tuple[FloatArray, BoolArray]]:
    """Writes `rows` clicks to `folder`/part-*.parquet, spread evenly over the files.

    Args:
        day, days: with drift, the day whose clicks they are, and the days of training.

    Yields:
        After each written row group, its true probabilities and drawn labels, each [B, T].
    """
    popularity: dict[str, IntArray] = {}
    place: tuple[int, ...] = ()
    if day is not None and days is not None:
        popularity, place = ids_by_rank(seed, day=day, days=days), (day,)
    group = 0
    for file in range(files):
        rows_left = rows // files + (file < rows % files)
        with pq.ParquetWriter(
            folder / f"part-{file:05d}.parquet", SCHEMA, compression="zstd"
        ) as writer:
            while rows_left > 0:
                rng = generator(seed, split, *place, group)
                clicks = draw_clicks(world, rng, min(rows_left, row_group_rows), popularity)
                probabilities = probabilities_of(world, clicks)
                labels = rng.random(probabilities.shape) < probabilities
                writer.write_table(to_table(clicks, labels), row_group_size=row_group_rows)
                yield probabilities, labels
                rows_left -= len(labels)
                group += 1


def write_click_log(
    out: Path,
    *,
    rows: int,
    eval_rows: int,
    seed: int,
    files: int,
    row_group_rows: int,
    days: int | None = None,
    relation: TaskRelation = DEMO,
) -> dict[str, float | None]:
    """Writes the whole log under `out`, replacing the parts of an earlier one.

    Args:
        rows: of training, over all days.
        files: of each split; with `days`, of each day.
        days: of training, of a log that drifts; None writes one that does not.
        relation: how the tasks go together.

    Returns:
        For each task, the AUC of the true probabilities on the eval labels, as in truth.json; None
        when the eval rows hold one class only.
    """
    (out / "truth.json").unlink(missing_ok=True)  # it stands for a finished log, so it goes first
    for split in ("train", "eval"):
        _empty(out / split)
    world = build_world(seed, relation)
    write = partial(
        write_split, world, seed=seed, files=files, row_group_rows=row_group_rows, days=days
    )
    for folder, day, rows_of_day in _train_parts(out / "train", rows, days):
        folder.mkdir(exist_ok=True)
        for _ in write(folder, "train", rows=rows_of_day, day=day):
            pass  # only eval is judged, and holding train's probabilities would not scale
    groups = list(write(out / "eval", "eval", rows=eval_rows, day=days))
    scores, labels = (np.concatenate(arrays) for arrays in zip(*groups, strict=True))
    truth = {task: auc(scores[:, index], labels[:, index]) for index, task in enumerate(TASKS)}
    content = {
        "seed": seed,
        "rows": rows,
        "eval_rows": eval_rows,
        **({} if days is None else {"days": days}),
        **({} if relation == DEMO else asdict(relation)),
        "tasks": {task: {"auc": value} for task, value in truth.items()},
    }
    (out / "truth.json").write_text(json.dumps(content, indent=2) + "\n")
    return truth


def _empty(folder: Path) -> None:
    """Makes the folder, and removes the parts that an earlier log has left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("part-*.parquet", "day-*/part-*.parquet"):
        for old in folder.glob(pattern):
            old.unlink()
    for day in folder.glob("day-*"):
        if day.is_dir() and not any(day.iterdir()):
            day.rmdir()


def _train_parts(
    train: Path, rows: int, days: int | None
) -> Iterator[tuple[Path, int | None, int]]:
    """Yields the folder, the day and the rows of each part of the train log."""
    if days is None:
        yield train, None, rows
        return
    for day in range(days):
        yield train / f"day-{day + 1:02d}", day, rows // days + (day < rows % days)


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, got '{text}'")
    return int(text)


def _rates(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(rate) for rate in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"needs numbers with commas between, got '{text}'"
        ) from None


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 0, got '{text}'")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 2 and one sentence when the arguments cannot be met."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    try:
        options["relation"] = TaskRelation(options.pop("task_correlation"), options.pop("rates"))
    except ValueError as error:
        parser.error(str(error))
    if options["days"] is not None and not options["drift"]:
        parser.error("--days cuts a log that drifts into days; give --drift, too, or neither")
    if options.pop("drift") and options["days"] is None:
        options["days"] = _DEFAULT_DAYS
    if options["eval_rows"] is None:
        options["eval_rows"] = options["rows"] // 5
    for name, days in (("rows", options["days"] or 1), ("eval_rows", 1)):
        files = options["files"] * days
        if options[name] < files:
            flag = "--" + name.replace("_", "-")
            parser.error(
                f"{flag} {options[name]} cannot fill {files} files; raise {flag} or lower --files"
            )
    started = time.monotonic()
    try:
        truth = write_click_log(**options)
    except OSError as error:
        parser.error(f"--out {options['out']} cannot be written: {error}")
    seconds = time.monotonic() - started
    print(f"{options['out']}: {options['rows']} train and {options['eval_rows']} eval rows", end="")
    print(f" in {seconds:.1f} s; AUC of the true probabilities: ", end="")
    print(", ".join(f"{task} {'none' if a is None else f'{a:.4f}'}" for task, a in truth.items()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.synthetic_clicks",
        usage="%(prog)s --out DIR --rows N --seed S [options]",
        description="Write a synthetic click log as Parquet.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--rows", type=_positive_int, required=True, help="train rows")
    parser.add_argument("--seed", type=_seed, required=True)
    parser.add_argument("--eval-rows", type=_positive_int, help="default: a fifth of --rows")
    parser.add_argument(
        "--files",
        type=_positive_int,
        default=4,
        help="files of each split, with --drift of each day (%(default)s)",
    )
    parser.add_argument(
        "--row-group-rows",
        type=_positive_int,
        default=8192,
        help="rows per row group (%(default)s)",
    )
    parser.add_argument(
        "--drift",
        action="store_true",
        help="change from day to day: a twentieth of users and items new, popularity turned",
    )
    parser.add_argument(
        "--days", type=_positive_int, help=f"with --drift: days of training ({_DEFAULT_DAYS})"
    )
    parser.add_argument(
        "--task-correlation",
        type=float,
        metavar="C",
        help="of what any two tasks depend on, from -0.5 (they pull apart) to 1; default: mixed",
    )
    parser.add_argument(
        "--rates",
        type=_rates,
        default=DEMO.rates,
        metavar="P,C,W",
        help="share of positives of purchase, cart and wish (0.06,0.08,0.07)",
    )
    return parser


if __name__ == "__main__":
    main()
