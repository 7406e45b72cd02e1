"""Which values of a model have namesakes in the checkpoint of another one.

Pure: it looks at two configurations and at names. E columns of pooled embeddings, F columns of all
dense inputs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recsys_mtl.config import Data, Feature, OneHotFeature
from recsys_mtl.data.features import table_rows, table_sizes
from recsys_mtl.worker.renaming import Renaming

_MOMENTS = ("accumulator.", "first_moment.", "second_moment.", "adam_steps.")
_PARTS = {
    "tables": ("tables.",),
    "moments": _MOMENTS,
    "of the run": ("method.", "window.", "cached_weights_and_coefficients"),
}


def part_of(name: str) -> str:
    """The part of `run.warm_start.parts` that a name belongs to, or `of the run`."""
    return next((part for part, heads in _PARTS.items() if name.startswith(heads)), "dense")


def namesakes(new: Data, old: Data, renaming: Renaming) -> dict[str, str]:
    """Each feature here that is there, too, and of the same kind, with its name there."""
    names = ((name, renaming.old_name(name)) for name in new.features)
    return {
        name: old_name
        for name, old_name in names
        if old_name in old.features and new.features[name].kind == old.features[old_name].kind
    }


@dataclass(frozen=True)
class FeatureChanges:
    """How the features of two runs differ."""

    new: tuple[str, ...]
    """Features here that have no namesake of their kind there."""
    dropped: tuple[str, ...]
    """Features there that have no namesake of their kind here."""
    changed: tuple[str, ...]
    """Features in both that are not what they were: `price: mean 0 -> 100, std 1 -> 30`."""


def feature_changes(new: Data, old: Data, renaming: Renaming) -> FeatureChanges:
    """What a person should know of the features before the run goes on from the other one."""
    both = namesakes(new, old, renaming)
    changed = {
        name: _changed(new.features[name], old.features[old_name])
        for name in new.features
        for old_name in [renaming.old_name(name)]
        if old_name in old.features
    }
    return FeatureChanges(
        new=tuple(name for name in new.features if name not in both),
        dropped=tuple(name for name in old.features if name not in both.values()),
        changed=tuple(f"{name}: {how}" for name, how in changed.items() if how),
    )


def _changed(now: Feature, was: Feature) -> str:
    """`mean 0 -> 100, std 1 -> 30`; empty where nothing has changed that may."""
    if isinstance(now, OneHotFeature) and isinstance(was, OneHotFeature):
        return _changed_vocabulary(now.vocabulary, was.vocabulary)
    settings = ("kind",) if now.kind != was.kind else ("embedding_dim", "mean", "std", "fill")
    pairs = ((name, getattr(was, name, None), getattr(now, name, None)) for name in settings)
    return ", ".join(
        f"{name} {_short(before)} -> {_short(after)}"
        for name, before, after in pairs
        if before != after
    )


def _changed_vocabulary(now: Sequence[str | int], was: Sequence[str | int]) -> str:
    """`vocabulary with 2 more values (Oslo, Rio), without 1 (Bergen)`; a few of them are named."""
    added, dropped = set(now).difference(was), set(was).difference(now)
    parts = [
        f"{what.format(len(values))} ({_few([v for v in order if v in values])})"
        for what, values, order in (
            ("with {} more values", added, now),
            ("without {} values", dropped, was),
        )
        if values
    ]
    if not parts and tuple(now) != tuple(was):
        parts = ["in another order"]
    return f"vocabulary {', '.join(parts)}" if parts else ""


def _few(values: Sequence[object], most: int = 5) -> str:
    more = [f"and {len(values) - most} others"] if len(values) > most else []
    return ", ".join([*map(repr, values[:most]), *more])


def _short(value: object) -> str:
    return str(value).removesuffix(".0")


@dataclass(frozen=True)
class Columns:
    """The inputs' columns of one feature, here and there."""

    here: slice
    there: slice

    @property
    def are_alike(self) -> bool:
        """Whether there are as many; a table may have another embedding_dim than there."""
        return _width(self.here) == _width(self.there)


def same_columns(new: Data, old: Data, renaming: Renaming) -> list[Columns] | None:
    """Where each feature's columns of the inputs [B, E + F] are in both; None where all agree."""
    ours, theirs = dict(_columns(new)), dict(_columns(old))
    names = namesakes(new, old, renaming)
    both = [
        columns
        for name, old_name in names.items()
        for columns in _pairs(
            new.features[name], old.features[old_name], ours[name], theirs[old_name]
        )
    ]
    all_in_both = (set(names), set(names.values())) == (set(ours), set(theirs))
    if all_in_both and all(columns.here == columns.there for columns in both):
        return None
    return [columns for columns in both if columns.are_alike]


def _pairs(now: Feature, was: Feature, here: slice, there: slice) -> Iterator[Columns]:
    """Yield the columns of a feature that mean the same in both runs.

    A vocabulary is compared value by value. A value that is new begins with what the other run had
    for any other value, since that is how it read this one.
    """
    if (
        not isinstance(now, OneHotFeature)
        or not isinstance(was, OneHotFeature)
        or now.vocabulary == was.vocabulary
    ):
        yield Columns(here, there)
        return
    place_there = {value: there.start + place for place, value in enumerate(was.vocabulary)}
    other, missing = there.stop - 2, there.stop - 1
    for place, value in enumerate(now.vocabulary):
        yield Columns(_one(here.start + place), _one(place_there.get(value, other)))
    yield Columns(_one(here.stop - 2), _one(other))
    yield Columns(_one(here.stop - 1), _one(missing))


def input_width(data: Data) -> int:
    """E + F"""
    return sum(_width(place) for _, place in _columns(data))


def _width(columns: slice) -> int:
    return int(columns.stop - columns.start)


def _columns(data: Data) -> Iterator[tuple[str, slice]]:
    """Each feature with its columns: pooled embeddings first, then dense inputs."""
    features, first = dict(data.id_features()), 0
    widths = {name: features[f.table or name].embedding_dim or 0 for name, f in features.items()}
    for name, width in {**widths, **data.dense_widths()}.items():
        yield name, slice(first, first + width)
        first += width


@dataclass(frozen=True)
class TableRowsThere:
    """How the rows of a table lie in the checkpoint."""

    total: int
    """All its rows there."""
    pairs: tuple[tuple[slice, slice], ...]
    """Rows here and rows there that mean the same: those for values, then each sharer's row for
    nulls."""


def moved_rows(new: Data, old: Data, renaming: Renaming) -> dict[str, TableRowsThere]:
    """By the feature that owns it, each table whose rows for nulls lie elsewhere in the checkpoint.

    A table has a row for nulls for each feature that reads it, so one more or fewer moves them.
    """
    ours, theirs, sizes = table_rows(new), table_rows(old), table_sizes(old)
    names, found = namesakes(new, old, renaming), {}
    for owner in table_sizes(new):
        old_owner = names.get(owner)
        if old_owner not in sizes:
            continue
        sharers = [name for name, f in new.id_features() if (f.table or name) == owner]
        before = [name for name, f in old.id_features() if (f.table or name) == old_owner]
        if [names.get(name) for name in sharers] == before:
            continue
        values = slice(0, ours[owner].for_values)
        nulls = [
            (_one(ours[name].missing), _one(theirs[names[name]].missing))
            for name in sharers
            if names.get(name) in before
        ]
        found[owner] = TableRowsThere(sizes[old_owner], ((values, values), *nulls))
    return found


def _one(row: int) -> slice:
    return slice(row, row + 1)
