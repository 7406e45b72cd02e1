"""The UserBehavior CSV: what its lines must be, which of its days count, and where eval starts."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb

from recsys_mtl.config import UserError

UTC8 = timezone(timedelta(hours=8))
DAY_SECONDS = 86_400
FIRST_SECOND = int(datetime(2017, 11, 25, tzinfo=UTC8).timestamp())
NUM_DAYS = 9
END_SECOND = FIRST_SECOND + NUM_DAYS * DAY_SECONDS
LINE = r"(-?[0-9]{1,18},){3}(pv|buy|cart|fav),-?[0-9]{1,18}"


class LogError(UserError):
    """The log, or what was asked of it, cannot be. Names the file or the option."""


@dataclass(frozen=True)
class Scan:
    """What one pass over the CSV tells."""

    csv_rows: int
    outside_rows: int
    """Rows whose second lies outside the dataset's official days."""
    split_second: int
    """The first second of the evaluation days."""
    clicks: int
    """Clicks on the official days, duplicates included."""


def scan_csv(connection: Any, csv: Path, eval_days: int) -> Scan:
    """Checks every line and finds the split.

    Raises:
        LogError: no file, a line that is no event, or no click on one side of the split.
    """
    days = count_days(connection, csv)
    clicks_of = {day: clicks for day, _, clicks in days if day is not None}
    if not clicks_of:
        raise LogError(
            f"{csv} has no event between 2017-11-25 and 2017-12-03 (UTC+8), the days the dataset "
            "covers; give the UserBehavior.csv of Tianchi dataset 649"
        )
    first_eval_day = max(clicks_of) + 1 - eval_days
    split_second = FIRST_SECOND + first_eval_day * DAY_SECONDS
    for split, is_eval in (("train", False), ("eval", True)):
        if not any(n for day, n in clicks_of.items() if (day >= first_eval_day) is is_eval):
            last_day = in_utc8(FIRST_SECOND + max(clicks_of) * DAY_SECONDS)[:10]
            raise LogError(
                f"{csv}, whose last day is {last_day}, has no click for {split} with --eval-days "
                f"{eval_days}; give another --eval-days, or a longer log"
            )
    return Scan(
        csv_rows=sum(rows for _, rows, _ in days),
        outside_rows=sum(rows for day, rows, _ in days if day is None),
        split_second=split_second,
        clicks=sum(clicks_of.values()),
    )


def count_days(connection: Any, csv: Path) -> list[tuple[int | None, int, int]]:
    """Checks every line and counts (day, rows, clicks); the day is None outside the official ones.

    Raises:
        LogError: no file, or a line that is no event.
    """
    if not csv.is_file():
        raise LogError(f"{csv} is no file; give the path of the unpacked UserBehavior.csv")
    try:
        # Lines are matched as text: DuckDB's cast to BIGINT would round 1.5 without a word.
        days = connection.execute(
            f"""
            SELECT if(second >= {FIRST_SECOND} AND second < {END_SECOND},
                      (second - {FIRST_SECOND}) // {DAY_SECONDS}, NULL) AS day,
                   count(*), count(*) FILTER (contains(line, ',pv,')),
                   count(*) FILTER (NOT regexp_full_match(line, '{LINE}'))
            FROM (SELECT line, try_cast(split_part(line, ',', 5) AS BIGINT) AS second
                  FROM read_csv({quoted(csv)}, header = false, auto_detect = false, delim = '\t',
                                quote = '', escape = '', columns = {{'line': 'VARCHAR'}}))
            GROUP BY day
            """
        ).fetchall()
    except (duckdb.InvalidInputException, duckdb.ConversionException):
        raise LogError(first_bad_line(csv)) from None
    if any(malformed for *_, malformed in days):
        raise LogError(first_bad_line(csv))
    return [(day, rows, clicks) for day, rows, clicks, _ in days]


def first_bad_line(csv: Path) -> str:
    """The sentence about the first line that is no event."""
    number, text = 0, ""
    with csv.open(encoding="utf-8", errors="replace") as file:
        # A line of more than 1,000 characters is bad whatever follows, and may fill the memory.
        while text := file.readline(1000):
            number += 1
            if text.strip() and not re.fullmatch(LINE, text.rstrip("\r\n")):
                break
    return (
        f"{csv}, line {number}: {text.rstrip()[:100]!r} is no event; each line must read "
        "user_id,item_id,category_id,behavior,unix_seconds with whole numbers and a behavior of "
        "pv, buy, cart or fav"
    )


def in_utc8(second: int) -> str:
    return datetime.fromtimestamp(second, UTC8).isoformat()


def quoted(path: Path) -> str:
    """The path as an SQL string."""
    return "'" + str(path).replace("'", "''") + "'"


def read_events(csv: Path) -> str:
    """SQL for the events of a checked CSV that lie in the official days."""
    return f"""
        SELECT * FROM read_csv({quoted(csv)}, header = false, auto_detect = false, delim = ',',
            quote = '', escape = '', columns = {{'user_id': 'BIGINT', 'item_id': 'BIGINT',
            'category_id': 'BIGINT', 'behavior': 'VARCHAR', 'unix_seconds': 'BIGINT'}})
        WHERE unix_seconds >= {FIRST_SECOND} AND unix_seconds < {END_SECOND}"""
