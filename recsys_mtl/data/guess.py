"""From what the columns of a log hold to what they are likely to mean: labels, features, neither.

n rows of the sample.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.data.dense_inputs import vocabulary_of
from recsys_mtl.data.sample import ColumnProfile, LogSample, profile
from recsys_mtl.data.schema import is_list

_LABEL_NAME = re.compile(
    r"label|target|purchase|buy|bought|order|paid|cart|wish|fav|click|conver|like|share|follow",
)
_ID_NAME = re.compile(r"(^|_)(id|ids|code|recode|type|kind|category|level)s?$")
_AMOUNT_NAME = re.compile(
    r"(^|_)(num|count|counts|total|seconds|minutes|hours|days|weeks|price|amount|views|clicks|carts"
    r"|wishes|orders|purchases)(_|$)|^age$"
)
_TIMES = ((10**9, 2 * 10**9), (10**12, 2 * 10**12), (10**15, 2 * 10**15), (10**18, 2 * 10**18))
"""Unix seconds, milliseconds, microseconds and nanoseconds of the years 2001 to 2033."""
_UNIQUE_SHARE = 0.99
_FEW_VALUES = 64
_MOST_ROWS = 50_000_000
_LEAK_ERRORS = 0.005
"""A feature gives a label away where it errs on fewer rows than this share of the rarer class."""


@dataclass(frozen=True)
class Guess:
    """What a column is taken for."""

    name: str
    use: str
    """`label`, `feature` or `left out`."""
    why: str
    """What was seen, as a comment."""
    settings: dict[str, object] = field(default_factory=dict)
    """Of a feature, as in data.features."""


def guess_columns(sample: LogSample, *, one_hot_values: int = 0) -> list[Guess]:
    """Take every column of a log for something, in the order of the columns.

    Args:
        one_hot_values: what would be an id of at most so many values becomes a one_hot feature.
    """
    profiles = {name: profile(sample, name) for name in dict.fromkeys(sample.table.column_names)}
    labels = _labels(sample, profiles)
    answers = {name: _as_numbers(sample.table[name]) for name in labels}
    guesses = []
    for name, column in profiles.items():
        if name in labels:
            share = float(np.nanmean(answers[name]))
            why = f"0 or 1, {share:.2%} are 1, {column.null_share:.1%} null"
            guesses.append(Guess(name, "label", why))
        else:
            guesses.append(_guess_feature(sample, column, answers, one_hot_values))
    return _with_shared_tables(guesses, profiles)


def _labels(sample: LogSample, profiles: dict[str, ColumnProfile]) -> list[str]:
    """Columns of 0 and 1: those with the name of a label, or where there is none, the rare ones.

    A count of which the log holds only 0 and 1, such as `item_wishes` beside `wish`, is none: it is
    wider than a label, and has the label's name in its own.
    """
    binary = [n for n, c in profiles.items() if _is_binary(c) and sample.largest.get(n, 1) <= 1]
    named = [name for name in binary if _LABEL_NAME.search(name.lower())]
    if not named:
        return [n for n in binary if float(pc.mean(profiles[n].values).as_py()) < 0.5]
    return [n for n in named if not any(other != n and other in n for other in named)]


def _is_binary(column: ColumnProfile) -> bool:
    kind = column.type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if not number or column.distinct != 2:
        return False
    return {float(value.as_py()) for value in column.values.unique()} == {0.0, 1.0}


def _guess_feature(
    sample: LogSample,
    column: ColumnProfile,
    answers: dict[str, npt.NDArray[np.float64]],
    one_hot_values: int,
) -> Guess:
    name, kind, n = column.name, column.type, len(column.values)
    inner = kind.value_type if is_list(kind) or pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(inner) or pa.types.is_large_string(inner)
    number = pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
    if not (text or number or pa.types.is_integer(inner)):
        return Guess(name, "left out", f"type {kind}, which no feature has")
    if column.distinct <= 1 and column.null_share == 0:
        return Guess(name, "left out", "one value in all rows of the sample")
    if not n:
        return Guess(name, "left out", "no value in the sample")
    if pa.types.is_integer(kind) and _is_time(column):
        return Guess(name, "left out", "a point in time, which no later row has")
    if not is_list(kind) and not number and n > 100 and column.distinct > _UNIQUE_SHARE * n:
        return Guess(name, "left out", "another value in every row")
    for label, answer in answers.items():
        if not is_list(kind) and _gives_away(sample.table[name], answer):
            return Guess(name, "left out", f"gives the label {label} away: it determines it")
    seen = f"{column.null_share:.1%} null"
    if number or (pa.types.is_integer(kind) and _is_amount(sample, column)):
        return _dense(column, seen)
    if not is_list(kind) and column.estimated_distinct <= one_hot_values:
        return _one_hot(column, is_text=text, seen=seen)
    return _id(sample, column, is_text=text, seen=seen)


def _is_time(column: ColumnProfile) -> bool:
    bounds = pc.min_max(column.values).as_py()
    return any(low <= bounds["min"] and bounds["max"] <= high for low, high in _TIMES)


def _is_amount(sample: LogSample, column: ColumnProfile) -> bool:
    """Whether an integer column counts something, rather than naming it."""
    if _ID_NAME.search(column.name.lower()):
        return False
    if _AMOUNT_NAME.search(column.name.lower()):
        return True
    largest = sample.largest.get(column.name, int(pc.max(column.values).as_py()))
    few = column.distinct <= _FEW_VALUES and int(pc.min(column.values).as_py()) >= 0
    return not (few and largest < 2 * _FEW_VALUES) and column.distinct < 0.2 * len(column.values)


def _dense(column: ColumnProfile, seen: str) -> Guess:
    values = _as_numbers(column.values)
    values = values[np.isfinite(values)]
    if len(values) < 2 or float(values.std()) == 0:
        return Guess(column.name, "left out", "one value in all rows of the sample")
    low, median, high = np.quantile(values, (0.0, 0.5, 0.99))
    heavy = low >= 0 and high > 10 * (median + 0.1)
    settings: dict[str, object] = {"kind": "dense"}
    if heavy:
        settings["transform"] = "log1p"
        values = np.log1p(values)
    settings |= {"mean": _short(values.mean()), "std": _short(values.std())}
    if "weight" in column.name.lower():
        seen += "; if it is a weight of rows, such as a survey's, take it out"
    return Guess(
        column.name,
        "feature",
        f"{low:.4g} to {values.max() if not heavy else np.expm1(values.max()):.4g}, median "
        f"{median:.4g}{', a heavy tail' if heavy else ''}, {seen}",
        settings,
    )


def _id(sample: LogSample, column: ColumnProfile, *, is_text: bool, seen: str) -> Guess:
    distinct = column.estimated_distinct
    rows = 1 << max(6, int(np.ceil(np.log2(max(1, distinct) * (8 if distinct < 100_000 else 2)))))
    how = "hashed, with room"
    if not is_text:
        largest = sample.largest.get(column.name, int(pc.max(column.values).as_py()))
        smallest = int(pc.min(column.values).as_py())
        if smallest >= 0 and largest < max(256, 4 * distinct):
            rows, how = largest + 1, f"0 to {largest:,}, a row each"
    settings: dict[str, object] = {
        "kind": "id",
        "rows": min(rows, _MOST_ROWS),
        "embedding_dim": 16 if distinct > 1000 else 8,
    }
    if is_list(column.type):
        settings["pooling"] = "mean"
    of = "lists of " if is_list(column.type) else ""
    return Guess(
        column.name,
        "feature",
        f"{of}{'strings' if is_text else 'integers'}, about {distinct:,} of them; {how}; {seen}",
        settings,
    )


def _one_hot(column: ColumnProfile, *, is_text: bool, seen: str) -> Guess:
    unseen = column.estimated_distinct - column.distinct
    more = f"; about {unseen} more in the log have one input together" if unseen else ""
    return Guess(
        column.name,
        "feature",
        f"{column.distinct} {'strings' if is_text else 'integers'}{more}; {seen}",
        {"kind": "one_hot", "vocabulary": list(vocabulary_of(column.values))},
    )


def _gives_away(column: pa.ChunkedArray, answer: npt.NDArray[np.float64]) -> bool:
    """Whether the most frequent label of each value is nearly always the label."""
    known = ~np.isnan(answer)
    labels = answer[known].astype(np.int64)
    rarer = min(labels.sum(), len(labels) - labels.sum())
    column = column.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = column.indices.fill_null(len(column.dictionary)).to_numpy(zero_copy_only=False)[known]
    size = len(column.dictionary) + 1
    if size > len(labels) / 10 or not rarer:
        return False  # where a value seldom comes twice, any column determines any other
    ones = np.bincount(values, weights=labels, minlength=size)
    wrong = np.minimum(ones, np.bincount(values, minlength=size) - ones).sum()
    return bool(wrong <= _LEAK_ERRORS * rarer)


def _with_shared_tables(guesses: list[Guess], profiles: dict[str, ColumnProfile]) -> list[Guess]:
    """Have `recent_categories` share the table of `category_id`."""
    owners = {
        re.sub(r"y$", "", g.name.removesuffix("_id")): g
        for g in guesses
        if g.name.endswith("_id") and g.settings.get("kind") == "id"
    }
    shared = []
    for guess in guesses:
        column = profiles[guess.name]
        owner = next((o for stem, o in owners.items() if stem in guess.name), None)
        if guess.use == "feature" and is_list(column.type) and owner is not None:
            same = pa.types.is_integer(column.type.value_type) == pa.types.is_integer(
                profiles[owner.name].type
            )
            if same:
                settings: dict[str, object] = {"kind": "id", "table": owner.name, "pooling": "mean"}
                guess = Guess(
                    guess.name,
                    "feature",
                    f"{guess.why}; shares the table of {owner.name}",
                    settings,
                )
        shared.append(guess)
    return shared


def _as_numbers(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """[n] float64, with NaN for null."""
    return np.array(column.cast(pa.float64()).to_pandas(), dtype=np.float64)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
