"""Small UserBehavior logs, and what a click log of one must hold by brute force."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.taobao_clicks import main

Event = tuple[int, int, int, str, int]  # user, item, category, behavior, unix second
Row = dict[str, Any]


def at(day: int, hour: int = 12, second: int = 0) -> int:
    """Unix second of a time in UTC+8 on a day of the log; day 0 is 25 November 2017."""
    start = datetime(2017, 11, 25, tzinfo=UTC) - timedelta(hours=8)
    return int((start + timedelta(days=day, hours=hour, seconds=second)).timestamp())


def write_csv(path: Path, events: Sequence[Event]) -> Path:
    path.write_text("".join(",".join(map(str, event)) + "\n" for event in events))
    return path


def make_log(csv: Path, out: Path, *options: str) -> Path:
    main(["--csv", str(csv), "--out", str(out), "--memory-limit", "512MB", *options])
    return out


def rows_of(out: Path, split: str) -> list[Row]:
    """All rows of a split, in an order of their own."""
    rows: list[Row] = pq.read_table(out / split).to_pylist()
    return sorted(rows, key=identity)


def identity(row: Row) -> tuple[int, ...]:
    return tuple(row[name] for name in ("unix_seconds", "user_id", "item_id", "category_id"))


def clicks_of(tmp_path: Path, events: Sequence[Event], *options: str) -> dict[str, list[Row]]:
    out = make_log(write_csv(tmp_path / "log.csv", events), tmp_path / "out", *options)
    return {split: rows_of(out, split) for split in ("train", "eval")}


def brute_force(events: Sequence[Event], eval_days: int = 1) -> dict[str, list[Row]]:
    """Every click looked up in the whole log, one at a time."""
    events = sorted({event for event in events if at(0, 0) <= event[4] < at(9, 0)})
    last_day = max(day for day in range(9) if any(at(day, 0) <= e[4] for e in events))
    split = at(last_day + 1 - eval_days, 0)
    rows: dict[str, list[Row]] = {"train": [], "eval": []}
    columns = [np.array(column) for column in zip(*events, strict=True)]
    for click in events:
        if click[3] == "pv":
            is_train = click[4] < split
            end = split if is_train else at(9, 0)
            rows["train" if is_train else "eval"].append(expected_row(click, columns, end))
    return {name: sorted(part, key=identity) for name, part in rows.items()}


def expected_row(click: Event, columns: Sequence[np.ndarray], end: int) -> Row:
    """The row of one click in a log of `columns`, with labels from events before `end`."""
    user, item, category, _, second = click
    related = (columns[0] == user) | (columns[1] == item) | (columns[2] == category)
    users, items, categories, behaviors, times = (column[related] for column in columns)
    before, after = times < second, (times >= second) & (times < end)
    owners = {"user": users == user, "item": items == item, "category": categories == category}
    clicked = np.flatnonzero(before & owners["user"] & (behaviors == "pv"))
    past = sorted((int(times[k]), int(items[k]), int(categories[k])) for k in clicked)
    clock = datetime.fromtimestamp(second + 8 * 3600, UTC)
    row: Row = {
        "user_id": user,
        "item_id": item,
        "category_id": category,
        "unix_seconds": second,
        "hour": clock.hour,
        "weekday": clock.weekday(),
        "user_category_clicks": sum(c == category for _, _, c in past),
        "seconds_since_click": second - past[-1][0] if past else None,
        "recent_items": [i for _, i, _ in past[-10:]],
        "recent_categories": [c for _, _, c in past[-10:]],
    }
    nouns = {"clicks": "pv", "carts": "cart", "wishes": "fav", "purchases": "buy"}
    for noun, behavior in nouns.items():
        for owner, owned in owners.items():
            row[f"{owner}_{noun}"] = int((before & owned & (behaviors == behavior)).sum())
    for task, behavior in (("purchase", "buy"), ("cart", "cart"), ("wish", "fav")):
        acted = after & owners["user"] & owners["item"] & (behaviors == behavior)
        row[task] = int(acted.any())
    return row


def random_events(seed: int, count: int) -> list[Event]:
    """Few users, items, categories and seconds, so that ties, duplicates and positives abound."""
    draw = random.Random(seed)
    seconds = [at(draw.randrange(9), draw.randrange(24), draw.randrange(9)) for _ in range(60)]
    seconds += [at(7), at(8), at(-1, 23, 3599), at(9, 0), -5]
    behaviors = ("pv", "pv", "pv", "buy", "cart", "fav")
    return [
        (
            draw.randrange(1, 6),
            draw.randrange(100, 108),
            draw.randrange(10, 13),
            draw.choice(behaviors),
            draw.choice(seconds),
        )
        for _ in range(count)
    ] + [(1, 100, 10, "pv", at(7)), (1, 100, 10, "pv", at(8))]
