"""The random world behind the synthetic click log: its columns, its users and items, its tastes.

The logits of the three labels are a sum of parts, one a column and one a crossing of two columns.
Every id moves the three logits by a draw from one normal distribution in which purchase and wish
are negatively correlated, and most dense columns move the two apart: what makes a click a purchase
makes it no wish, so the tasks' gradients conflict. An id column has Zipf popularity and is drawn
for each click, or belongs to an owner (an item has one category): then it is a table looked up.
"""

# B clicks, T tasks, L recent categories at most.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.synthetic_tasks import DEMO, TASKS, FloatArray, TaskRelation

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Split = Literal["train", "eval"]

CALIBRATION_ROWS = 20_000
RECENT_CATEGORIES = "recent_categories"
RECENT_CATEGORIES_LENGTH = 5
RECENT_CATEGORIES_LOGIT_STD = 0.15


@dataclass(frozen=True)
class IdColumn:
    """A column of ids in [0, cardinality); value k is drawn with weight (k + 1)^-zipf_exponent.

    `owner` names the earlier column that determines it, None means drawn anew for each click.
    `logit_std` is the standard deviation over clicks of its part of each logit. `vocabulary`
    turns the ids into strings.
    """

    name: str
    owner: str | None
    cardinality: int
    zipf_exponent: float
    logit_std: float
    null_share: float = 0.0
    vocabulary: tuple[str, ...] = ()


@dataclass(frozen=True)
class DenseColumn:
    """A dense column made from a standard normal z: `amount` is exp(mean + std z) - 1, at least 0,
    `count` the same rounded to a whole number, `rate` 1 / (1 + exp(-(mean + std z))).

    So log1p turns amounts and counts back into about N(mean, std^2). `owner` is IdColumn's.
    `effects` is what z = 1 adds to each task's logit: written by hand, since 18 random draws would
    leave some seeds without a conflict.
    """

    name: str
    owner: str | None
    kind: Literal["amount", "count", "rate"]
    mean: float
    std: float
    effects: tuple[float, float, float]
    null_share: float = 0.0


CITIES = tuple(f"city-{number:03d}" for number in range(150))
DEVICES = ("android-phone", "iphone", "android-tablet", "ipad", "windows", "mac", "tv", "watch")

# Most of the signal lies where a short run can learn it: dense values and ids of few values.
ID_COLUMNS = (
    IdColumn("user_id", None, 50_000, 0.8, 0.12),
    IdColumn("item_id", None, 100_000, 0.9, 0.12),
    IdColumn("category_id", "item_id", 200, 0.8, 0.3),
    IdColumn("root_category_id", "category_id", 20, 0.5, 0.25),
    IdColumn("brand_id", "item_id", 2_000, 0.9, 0.18),
    IdColumn("shop_id", "item_id", 8_000, 0.9, 0.1),
    IdColumn("seller_level", "shop_id", 10, 0.4, 0.2),
    IdColumn("style_id", "item_id", 60, 0.6, 0.15, null_share=0.03),
    IdColumn("colour_id", "item_id", 30, 0.7, 0.1),
    IdColumn("promotion_id", "item_id", 40, 0.8, 0.2),
    IdColumn("city", "user_id", len(CITIES), 0.8, 0.2, null_share=0.02, vocabulary=CITIES),
    IdColumn("province_id", "city", 30, 0.3, 0.1),
    IdColumn("age_bucket", "user_id", 8, 0.3, 0.3),
    IdColumn("gender", "user_id", 3, 0.7, 0.2),
    IdColumn("occupation_id", "user_id", 20, 0.6, 0.15, null_share=0.1),
    IdColumn("income_level", "user_id", 6, 0.4, 0.25),
    IdColumn("membership_level", "user_id", 5, 0.7, 0.25),
    IdColumn("user_segment", "user_id", 50, 0.6, 0.2),
    IdColumn("favourite_brand_id", "user_id", 2_000, 0.9, 0.1, null_share=0.2),
    IdColumn("device", None, len(DEVICES), 1.2, 0.15, vocabulary=DEVICES),
    IdColumn("os_version", "user_id", 30, 0.5, 0.05),
    IdColumn("network_type", None, 4, 0.9, 0.1),
    IdColumn("hour", None, 24, 0.3, 0.2),
    IdColumn("weekday", None, 7, 0.1, 0.1),
    IdColumn("channel_id", None, 12, 0.8, 0.25),
    IdColumn("page_position", None, 50, 0.9, 0.2),
    IdColumn("coupon_kind", None, 6, 0.9, 0.25),
)

DENSE_COLUMNS = (
    DenseColumn("price", "item_id", "amount", 3.5, 1.1, (-0.42, -0.24, 0.42)),
    DenseColumn("discount_rate", "item_id", "rate", -1.2, 0.8, (0.36, 0.36, -0.3)),
    DenseColumn("item_clicks_7d", "item_id", "count", 5.0, 1.6, (-0.18, 0.18, 0.3)),
    DenseColumn("item_purchases_30d", "item_id", "count", 3.0, 1.2, (0.42, 0.18, -0.3)),
    DenseColumn("item_carts_30d", "item_id", "count", 3.4, 1.2, (0.18, 0.42, -0.24)),
    DenseColumn("item_wishes_30d", "item_id", "count", 2.8, 1.1, (-0.3, -0.12, 0.42)),
    DenseColumn("item_reviews", "item_id", "count", 4.0, 1.7, (0.24, 0.12, -0.18), null_share=0.03),
    DenseColumn(
        "item_praise_rate", "item_id", "rate", 2.2, 0.7, (0.18, 0.24, 0.24), null_share=0.03
    ),
    DenseColumn("shop_followers", "shop_id", "count", 7.0, 2.0, (0.12, 0.18, 0.18)),
    DenseColumn("shop_repeat_rate", "shop_id", "rate", -1.6, 0.6, (0.24, 0.18, -0.18)),
    DenseColumn("user_clicks_7d", "user_id", "count", 4.2, 1.2, (-0.3, 0.24, 0.24)),
    DenseColumn("user_purchases_30d", "user_id", "count", 2.4, 0.9, (0.42, 0.18, -0.3)),
    DenseColumn("user_carts_30d", "user_id", "count", 2.8, 1.0, (0.18, 0.42, -0.18)),
    DenseColumn("user_wishes_30d", "user_id", "count", 2.6, 1.0, (-0.24, -0.18, 0.42)),
    DenseColumn("account_age_days", "user_id", "count", 6.0, 0.6, (0.18, -0.12, -0.18)),
    DenseColumn("session_clicks", None, "count", 2.6, 0.9, (-0.24, 0.3, 0.3)),
    DenseColumn("session_seconds", None, "amount", 5.4, 1.1, (0.36, 0.36, -0.36)),
    DenseColumn(
        "seconds_since_last_click", None, "amount", 6.0, 2.0, (-0.24, -0.3, -0.12), null_share=0.05
    ),
)

# (user side, item side, logit_std): tastes, which a model without interactions cannot learn.
CROSSINGS = (
    ("age_bucket", "root_category_id", 0.3),
    ("gender", "seller_level", 0.2),
    ("income_level", "promotion_id", 0.15),
)

_CARDINALITY = {column.name: column.cardinality for column in ID_COLUMNS}


@dataclass(frozen=True)
class World:
    """What all clicks of one seed share.

    owned_ids: for each owned id column, its id by the owner's id.
    owned_normals: for each owned dense column, its z by the owner's id.
    recent: [users, L] category ids.
    effects: for each part of ids, [ids, T]; for each dense column, [1, T], to be multiplied by z.
    intercepts: [T].
    """

    owned_ids: dict[str, IntArray]
    owned_normals: dict[str, FloatArray]
    recent: IntArray
    effects: dict[str, FloatArray]
    intercepts: FloatArray


@dataclass(frozen=True)
class Clicks:
    """The features of B clicks before they take their column's form.

    ids and normals: [B] a column. nulls: [B] for the columns that have nulls. recent: [B, L], of
    which the first recent_lengths [B] of each row count.
    """

    ids: dict[str, IntArray]
    normals: dict[str, FloatArray]
    nulls: dict[str, BoolArray]
    recent: IntArray
    recent_lengths: IntArray


def generator(
    seed: int, stream: Literal["world", "calibration", "drift"] | Split, *place: int
) -> np.random.Generator:
    """Independent random numbers for each (seed, stream, place), such as a row group's number."""
    key = (("world", "calibration", "train", "eval", "drift").index(stream), *(place or (0,)))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def draw_zipf(
    rng: np.random.Generator, cardinality: int, exponent: float, size: int | tuple[int, int]
) -> IntArray:
    """Ids in [0, cardinality), of which k has a probability proportional to (k + 1)^-exponent."""
    cumulative = np.cumsum(np.arange(1, cardinality + 1) ** -exponent)
    # The scaled uniform can round up to the last cumulative weight, whose index is out of range.
    drawn = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
    ids: IntArray = np.minimum(drawn, cardinality - 1)
    return ids


def build_world(seed: int, relation: TaskRelation = DEMO) -> World:
    """Draws the owned columns and the effects, then calibrates both on CALIBRATION_ROWS clicks."""
    rng = generator(seed, "world")
    owned_ids = {
        column.name: draw_zipf(
            rng, column.cardinality, column.zipf_exponent, _CARDINALITY[column.owner]
        )
        for column in ID_COLUMNS
        if column.owner is not None
    }
    owned_normals = {
        column.name: rng.standard_normal(_CARDINALITY[column.owner])
        for column in DENSE_COLUMNS
        if column.owner is not None
    }
    recent_shape = (_CARDINALITY["user_id"], RECENT_CATEGORIES_LENGTH)
    recent = draw_zipf(rng, _CARDINALITY["category_id"], 0.8, recent_shape)
    mixing = relation.mixing()
    sizes = _CARDINALITY | {RECENT_CATEGORIES: _CARDINALITY["category_id"]}
    for left, right, _ in CROSSINGS:
        sizes[f"{left} x {right}"] = _CARDINALITY[left] * _CARDINALITY[right]
    effects = {
        name: rng.standard_normal((size, len(TASKS))) @ mixing.T for name, size in sizes.items()
    }
    by_hand = relation.relate(np.array([column.effects for column in DENSE_COLUMNS]))
    effects |= {c.name: row[None] for c, row in zip(DENSE_COLUMNS, by_hand, strict=True)}
    raw = World(owned_ids, owned_normals, recent, effects, np.zeros(len(TASKS)))
    clicks = draw_clicks(raw, generator(seed, "calibration"), CALIBRATION_ROWS)
    return _calibrate(raw, clicks, relation.rates)


def _calibrate(raw: World, clicks: Clicks, rates: Sequence[float]) -> World:
    """Gives every part of ids its logit_std and every task its rate, measured on `clicks`."""
    logit_std = {column.name: column.logit_std for column in ID_COLUMNS}
    logit_std |= {f"{left} x {right}": std for left, right, std in CROSSINGS}
    logit_std[RECENT_CATEGORIES] = RECENT_CATEGORIES_LOGIT_STD
    effects = raw.effects | {
        name: raw.effects[name] * (logit_std[name] / part.std(axis=0))
        for name, part in logit_parts(raw.effects, clicks)
        if name in logit_std
    }
    logits = _logits(effects, clicks)
    low, high = np.full(len(TASKS), -30.0), np.full(len(TASKS), 30.0)
    for _ in range(50):  # bisection: 60 / 2^50 is below 1e-13
        middle = (low + high) / 2
        too_many = sigmoid(logits + middle).mean(axis=0) > rates
        low, high = np.where(too_many, low, middle), np.where(too_many, middle, high)
    return World(raw.owned_ids, raw.owned_normals, raw.recent, effects, (low + high) / 2)


def draw_clicks(
    world: World,
    rng: np.random.Generator,
    rows: int,
    ids_by_rank: Mapping[str, IntArray] = MappingProxyType({}),
) -> Clicks:
    """Draws the features of `rows` clicks.

    Args:
        ids_by_rank: for a column without an owner, the ids it may have, most popular first; all
            its ids in ascending order where the column is not named.
    """
    ids: dict[str, IntArray] = {}
    for column in ID_COLUMNS:
        if column.name in ids_by_rank:
            allowed = ids_by_rank[column.name]
            ids[column.name] = allowed[draw_zipf(rng, len(allowed), column.zipf_exponent, rows)]
        elif column.owner is None:
            ids[column.name] = draw_zipf(rng, column.cardinality, column.zipf_exponent, rows)
        else:
            ids[column.name] = world.owned_ids[column.name][ids[column.owner]]
    normals = {
        dense.name: rng.standard_normal(rows)
        if dense.owner is None
        else world.owned_normals[dense.name][ids[dense.owner]]
        for dense in DENSE_COLUMNS
    }
    nulls = {
        column.name: rng.random(rows) < column.null_share
        for column in (*ID_COLUMNS, *DENSE_COLUMNS)
        if column.null_share > 0
    }
    lengths = rng.integers(0, RECENT_CATEGORIES_LENGTH + 1, rows)
    return Clicks(ids, normals, nulls, world.recent[ids["user_id"]], lengths)


def logit_parts(effects: dict[str, FloatArray], clicks: Clicks) -> Iterator[tuple[str, FloatArray]]:
    """Each part's name and its share [B, T] of the logits; a null adds nothing."""
    parts = {name: effects[name][ids] for name, ids in clicks.ids.items()}
    parts |= {name: z[:, None] * effects[name] for name, z in clicks.normals.items()}
    for name, missing in clicks.nulls.items():
        parts[name][missing] = 0.0
    yield from parts.items()
    for left, right, _ in CROSSINGS:
        name = f"{left} x {right}"
        crossed = clicks.ids[left] * _CARDINALITY[right] + clicks.ids[right]
        yield name, effects[name][crossed]
    counted = np.arange(RECENT_CATEGORIES_LENGTH) < clicks.recent_lengths[:, None]
    summed = (effects[RECENT_CATEGORIES][clicks.recent] * counted[:, :, None]).sum(axis=1)
    yield RECENT_CATEGORIES, summed / np.maximum(clicks.recent_lengths, 1)[:, None]


def _logits(effects: dict[str, FloatArray], clicks: Clicks) -> FloatArray:
    total = np.zeros((len(clicks.recent), len(TASKS)))
    for _, part in logit_parts(effects, clicks):
        total += part
    return total


def sigmoid(logits: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-logits))


def probabilities_of(world: World, clicks: Clicks) -> FloatArray:
    """The true probabilities [B, T] of the three labels."""
    return sigmoid(_logits(world.effects, clicks) + world.intercepts)
