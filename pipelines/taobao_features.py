"""SQL for the Taobao clicks: which events there are, what was known before each, what came after.

Every function returns the text of one DuckDB query over one bucket of events; `taobao_clicks` runs
them in turn. Events have user_id, item_id, category_id, behavior and unix_seconds.
"""

from collections.abc import Sequence
from pathlib import Path

from pipelines.taobao_csv import DAY_SECONDS, FIRST_SECOND, quoted

FIRST_WEEKDAY = 5  # Saturday; Monday is 0
# What a behavior's counts are called, and the behavior that makes a task's label 1.
NOUN_OF = {"pv": "clicks", "cart": "carts", "fav": "wishes", "buy": "purchases"}
TASKS = {"purchase": "buy", "cart": "cart", "wish": "fav"}
RECENT_CLICKS = 10


def read_bucket(folder: Path) -> str:
    """SQL for the rows that `write_buckets` put into one bucket."""
    return f"FROM read_parquet({quoted(folder / '*.parquet')}, hive_partitioning = false)"


def earlier_counts(events: str, keys: Sequence[str], behaviors: Sequence[str], prefix: str) -> str:
    """SQL for `{prefix}_clicks` etc.: events of these keys strictly before each second they have.

    Events are counted by (keys, second) first, so that a running sum over rows is enough. A RANGE
    frame over the events says the same in one expression, but did not end within 200 s on 4 million
    events of which one category had 1.2 million; this took 13 s and spills.
    """
    group = ", ".join(keys)
    per_second = ", ".join(f"count(*) FILTER (behavior = '{b}') AS {b}" for b in behaviors)
    before = ", ".join(
        f"coalesce(sum({b}) OVER earlier, 0)::BIGINT AS {prefix}_{NOUN_OF[b]}" for b in behaviors
    )
    return f"""
        SELECT {group}, unix_seconds, {before}
        FROM (SELECT {group}, unix_seconds, {per_second} FROM {events} GROUP BY ALL)
        WINDOW earlier AS (PARTITION BY {group} ORDER BY unix_seconds
                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"""


def with_category_counts(bucket: Path) -> str:
    """SQL for the distinct events of a category bucket, with their category's earlier counts."""
    return f"""
        WITH events AS MATERIALIZED (SELECT DISTINCT * {read_bucket(bucket)})
        FROM events JOIN ({earlier_counts("events", ["category_id"], list(NOUN_OF), "category")})
        USING (category_id, unix_seconds)"""


def with_item_counts(bucket: Path) -> str:
    """SQL for the events of an item bucket, with their item's earlier counts."""
    return f"""
        WITH events AS ({read_bucket(bucket)})
        FROM events JOIN ({earlier_counts("events", ["item_id"], list(NOUN_OF), "item")})
        USING (item_id, unix_seconds)"""


def clicks_of_users(bucket: Path, split_second: int) -> str:
    """SQL for the finished clicks of a user bucket.

    A label needs only the last action of its kind on the item: one at or after the click exists
    when the last one is. A train click is held against the last before the split. A click with n
    earlier ones finds its past as click number n of `history`, so that clicks of its own second,
    which have numbers above n, stay out.
    """
    last = ", ".join(
        f"max(unix_seconds) FILTER (behavior = '{b}' AND {known}) AS {b}_{split}"
        for b in TASKS.values()
        for split, known in (("train", f"unix_seconds < {split_second}"), ("eval", "true"))
    )
    labels = ", ".join(
        f"coalesce(unix_seconds <= if(unix_seconds < {split_second}, {b}_train, {b}_eval), false)"
        f"::TINYINT AS {task}"
        for task, b in TASKS.items()
    )
    counts = ", ".join(f"{k}_{n}" for k in ("user", "item", "category") for n in NOUN_OF.values())
    pair = ["user_id", "category_id"]
    return f"""
        WITH events AS ({read_bucket(bucket)}),
        user_counts AS ({earlier_counts("events", ["user_id"], list(NOUN_OF), "user")}),
        pair_counts AS ({earlier_counts("events", pair, ["pv"], "user_category")}),
        actions AS (
            SELECT user_id, item_id, {last} FROM events WHERE behavior <> 'pv' GROUP BY ALL),
        history AS (
            SELECT user_id, unix_seconds AS previous_second,
                   row_number() OVER clicks AS user_clicks,
                   list(category_id) OVER recent AS recent_categories,
                   list(item_id) OVER recent AS recent_items
            FROM events WHERE behavior = 'pv'
            WINDOW clicks AS (PARTITION BY user_id ORDER BY unix_seconds, item_id, category_id),
                   recent AS (clicks ROWS BETWEEN {RECENT_CLICKS - 1} PRECEDING AND CURRENT ROW))
        SELECT user_id, item_id, category_id, unix_seconds,
               (unix_seconds - {FIRST_SECOND}) % {DAY_SECONDS} // 3600 AS hour,
               ((unix_seconds - {FIRST_SECOND}) // {DAY_SECONDS} + {FIRST_WEEKDAY}) % 7 AS weekday,
               {counts}, user_category_clicks,
               unix_seconds - previous_second AS seconds_since_click,
               coalesce(recent_categories, []) AS recent_categories,
               coalesce(recent_items, []) AS recent_items,
               {labels}
        FROM (FROM events WHERE behavior = 'pv')
        JOIN user_counts USING (user_id, unix_seconds)
        JOIN pair_counts USING (user_id, category_id, unix_seconds)
        LEFT JOIN actions USING (user_id, item_id)
        LEFT JOIN history USING (user_id, user_clicks)"""
