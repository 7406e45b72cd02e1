"""The public Taobao UserBehavior log as a click log with purchase, cart and wish labels.

    python -m pipelines.taobao_clicks --csv UserBehavior.csv --out data/taobao

Read: `user_id,item_id,category_id,behavior,unix_seconds` without a header, behavior one of pv (a
click), buy, cart, fav; Tianchi dataset 649, 100,150,807 rows. Written: `train/part-*.parquet`,
`eval/part-*.parquet` and, last, `summary.json`; the last days of the log, in China Standard Time
(UTC+8), are eval.

One row a click. Its features hold what was known strictly before it: events of the same second are
left out, as their order is not known. Its labels say whether the same user buys, carts or
favourites the same item at or after it, and before the split for a train click: no train label
looks into the evaluation days. Dropped, and counted: events outside the days the dataset officially
covers (their clocks are wrong) and exact duplicates (one event logged twice).

The log need not fit in memory: it is cut by hash into buckets three times, by category, by item and
by user, and DuckDB works on one bucket at a time and spills what exceeds its memory limit.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import duckdb

from pipelines.taobao_csv import LogError, Scan, in_utc8, quoted, read_events, scan_csv
from pipelines.taobao_features import (
    TASKS,
    clicks_of_users,
    with_category_counts,
    with_item_counts,
)

SPLITS = ("train", "eval")
EVENTS_PER_BUCKET = 1_000_000
MAX_BUCKETS = 96  # DuckDB writes up to 100 partitions at once before it starts to close files
MAX_THREADS = 4  # each holds a row group of every bucket it writes to


@contextmanager
def folders(out: Path, temp_dir: Path | None) -> Iterator[tuple[Path, Path]]:
    """Folders for the unfinished log, inside `out`, and for scratch files; gone at the end.

    Raises:
        LogError: `out` holds something that a new log would take with the old one.
    """
    for path in (path for split in SPLITS for path in sorted((out / split).glob("*"))):
        if not path.match("part-*.parquet"):
            raise LogError(f"{path} is no part of a click log; move it away or give another --out")
    created = not out.exists()
    partial = out / ".partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        for split in SPLITS:
            (partial / split).mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="taobao-", dir=temp_dir or partial) as scratch:
            yield partial, Path(scratch)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if created and out.exists() and not any(out.iterdir()):
            out.rmdir()


def connect(scratch: Path, memory_limit: str) -> Any:
    """A DuckDB connection that spills into `scratch`.

    Raises:
        LogError: DuckDB does not know such a limit.
    """
    connection = duckdb.connect(
        config={
            "temp_directory": str(scratch / "spill"),
            "threads": min(MAX_THREADS, os.cpu_count() or 1),
            "preserve_insertion_order": False,  # what is sorted says so; the rest need not wait
        }
    )
    try:
        connection.execute(f"SET memory_limit = '{memory_limit}'")
    except duckdb.Error:
        raise LogError(
            f"--memory-limit {memory_limit} is no size; write it as 512MB or 4GB"
        ) from None
    return connection


def write_buckets(
    connection: Any, rows: str, folder: Path, *, by: str, count: int, name: str
) -> int:
    """Adds the rows of an SQL query to `count` buckets under `folder`, equal `by` in one bucket.

    Returns:
        The number of rows written.
    """
    written = connection.execute(
        f"""
        COPY (SELECT *, hash({by}) % {count} AS bucket FROM ({rows})) TO {quoted(folder)}
        (FORMAT parquet, PARTITION_BY (bucket), FILENAME_PATTERN '{name}-{{i}}',
         OVERWRITE_OR_IGNORE)
        """
    ).fetchone()[0]
    return int(written)


def each_bucket(folder: Path, stage: str) -> Iterator[Path]:
    """The buckets under `folder`, each removed after its turn; prints how far they are."""
    started = time.monotonic()
    buckets = sorted(folder.iterdir())
    for done, bucket in enumerate(buckets, start=1):
        yield bucket
        shutil.rmtree(bucket)
        if done * 10 // len(buckets) > (done - 1) * 10 // len(buckets):
            seconds = time.monotonic() - started
            print(f"{stage}: {done} of {len(buckets)} buckets, {seconds:.1f} s", flush=True)


def write_events(connection: Any, csv: Path, scan: Scan, scratch: Path) -> int:
    """Cuts the events into buckets of users, with the earlier counts of categories and items.

    Returns:
        The number of events, exact duplicates counted once.
    """
    category, item, user = (scratch / key for key in ("category", "item", "user"))
    buckets = min(MAX_BUCKETS, -(-(scan.csv_rows - scan.outside_rows) // EVENTS_PER_BUCKET))
    started = time.monotonic()
    write_buckets(
        connection, read_events(csv), category, by="category_id", count=buckets, name="csv"
    )
    print(f"events by category: {time.monotonic() - started:.1f} s", flush=True)
    events = 0
    for bucket in each_bucket(category, "categories' counts"):
        rows = with_category_counts(bucket)
        events += write_buckets(
            connection, rows, item, by="item_id", count=buckets, name=bucket.name
        )
    for bucket in each_bucket(item, "items' counts"):
        rows = with_item_counts(bucket)
        write_buckets(connection, rows, user, by="user_id", count=buckets, name=bucket.name)
    return events


def write_clicks(connection: Any, bucket: Path, partial: Path, scan: Scan) -> None:
    """Writes the finished clicks of a user bucket to one part of each split, in order of time."""
    number = int(bucket.name.removeprefix("bucket="))
    rows = clicks_of_users(bucket, scan.split_second)
    row_group_rows = min(65_536, max(2_048, scan.clicks // 64))  # some for a small log, too
    connection.execute(f"CREATE OR REPLACE TEMP TABLE clicks AS {rows}")
    for split, period in (("train", "<"), ("eval", ">=")):
        part = partial / split / f"part-{number:05d}.parquet"
        connection.execute(
            f"""
            COPY (FROM clicks WHERE unix_seconds {period} {scan.split_second}
                  ORDER BY unix_seconds, user_id, item_id, category_id) TO {quoted(part)}
            (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {row_group_rows},
             WRITE_EMPTY_FILE false)
            """
        )


def count_labels(connection: Any, folder: Path) -> dict[str, Any]:
    """Rows and positives of the parts in a folder."""
    sums = ", ".join(f"sum({task})" for task in TASKS)
    rows, *positives = connection.execute(
        f"SELECT count(*), {sums} FROM read_parquet({quoted(folder / '*.parquet')})"
    ).fetchone()
    return {"rows": rows, "positives": dict(zip(TASKS, map(int, positives), strict=True))}


def publish(partial: Path, out: Path, summary: dict[str, Any]) -> None:
    """Moves the finished splits to `out`, over an earlier log."""
    (out / "summary.json").unlink(missing_ok=True)  # it stands for a finished log
    for split in SPLITS:
        if (out / split).exists():
            (out / split).rename(partial / f"old-{split}")
        (partial / split).rename(out / split)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def build_click_log(
    csv: Path, out: Path, *, eval_days: int, memory_limit: str, temp_dir: Path | None
) -> dict[str, Any]:
    """Writes the click log of `csv` under `out`, in place of an earlier one once it is complete.

    Args:
        memory_limit: Of DuckDB's buffers, such as "4GB"; the process needs some more.
        temp_dir: Holds buckets and what spills, up to five times the CSV; inside `out` when None.

    Returns:
        The content of summary.json.

    Raises:
        LogError: the CSV, the split or an option cannot be; nothing is left in `out` then.
    """
    with folders(out, temp_dir) as (partial, scratch), connect(scratch, memory_limit) as connection:
        scan = scan_csv(connection, csv, eval_days)
        print(f"{csv}: {scan.csv_rows} lines, all of them events", flush=True)
        events = write_events(connection, csv, scan, scratch)
        for bucket in each_bucket(scratch / "user", "users' counts and labels"):
            write_clicks(connection, bucket, partial, scan)
        summary = {
            "csv_rows": scan.csv_rows,
            "dropped": {
                "outside_2017-11-25_to_2017-12-03": scan.outside_rows,
                "exact_duplicates": scan.csv_rows - scan.outside_rows - events,
            },
            "events": events,
            "split_time": in_utc8(scan.split_second),
            "split_unix_seconds": scan.split_second,
            **{split: count_labels(connection, partial / split) for split in SPLITS},
        }
        publish(partial, out, summary)
    return summary


def positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, got '{text}'")
    return int(text)


def refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 2 and one sentence when the log cannot be made."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.taobao_clicks",
        description="Turn the public Taobao UserBehavior log into a click log as Parquet.",
    )
    parser.add_argument("--csv", type=Path, required=True, help="UserBehavior.csv, unpacked")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--eval-days", type=positive_int, default=1, help="last days, in UTC+8 (%(default)s)"
    )
    parser.add_argument("--memory-limit", default="4GB", help="of DuckDB's buffers (%(default)s)")
    parser.add_argument(
        "--temp-dir", type=Path, help="for up to five times the CSV; default: inside --out"
    )
    options = parser.parse_args(arguments)
    try:
        summary = build_click_log(**vars(options))
    except LogError as error:
        refuse(str(error))
    except duckdb.OutOfMemoryException:
        refuse(
            f"--memory-limit {options.memory_limit} or the disk of --temp-dir is too small for "
            f"{options.csv}; give more of the one that is short"
        )
    except (OSError, duckdb.IOException) as error:
        refuse(f"{' '.join(str(error).split())}; check --csv, --out and --temp-dir")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
