"""Which values of a model have namesakes in the checkpoint of another one.

Pure: it looks at two configurations and at names. E columns of pooled embeddings, F dense columns.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from recsys_mtl.config import Data, RunConfig, UserError, WarmStart
from recsys_mtl.data.features import table_rows, table_sizes

_MOMENTS = ("accumulator.", "first_moment.", "second_moment.", "adam_steps.")
_PARTS = {
    "tables": ("tables.",),
    "moments": _MOMENTS,
    "of the run": ("method.", "window.", "cached_weights_and_coefficients"),
}


class Renaming:
    """Names here and in the other run's checkpoint."""

    def __init__(self, rename: Mapping[str, str]) -> None:
        """Take names there to names here.

        Raises:
            UserError: two names there would have one name here.
        """
        back = {new: old for old, new in rename.items()}
        if len(back) < len(rename):
            raise UserError(
                "run.warm_start.rename gives two names the same new name; give each its own"
            )
        self._to_new, self._to_old = _Substitution(rename), _Substitution(back)

    def old_name(self, name: str) -> str:
        """The name there of what is called `name` here."""
        return self._to_old.of(name)

    def new_name(self, name: str) -> str:
        """The name here of what is called `name` there."""
        return self._to_new.of(name)


class _Substitution:
    """Replaces names that stand whole between the dots of a longer one, all at once."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        self._pattern = re.compile(rf"(?<![^.])(?:{either})(?![^.])") if names else None

    def of(self, name: str) -> str:
        if self._pattern is None:
            return name
        return self._pattern.sub(lambda found: self._names[found[0]], name)


def stands_in(name: str, whole: str) -> bool:
    """Whether a name stands whole between the dots of a longer one."""
    return f".{name}." in f".{whole}."


def part_of(name: str) -> str:
    """The part of `run.warm_start.parts` that a name belongs to, or `of the run`."""
    return next((part for part, heads in _PARTS.items() if name.startswith(heads)), "dense")


@dataclass(frozen=True)
class Columns:
    """The inputs' columns of one feature, here and there."""

    here: slice
    there: slice


def same_columns(new: Data, old: Data, renaming: Renaming) -> list[Columns] | None:
    """Where each feature's columns of the inputs [B, E + F] are in both; None where all agree."""
    ours, theirs = dict(_columns(new)), dict(_columns(old))
    names = {feature: renaming.old_name(feature) for feature in ours}
    if [(names[f], place) for f, place in ours.items()] == list(theirs.items()):
        return None
    return [
        Columns(place, theirs[names[feature]])
        for feature, place in ours.items()
        if names[feature] in theirs and _is_alike(new, old, feature, names[feature])
    ]


def input_width(data: Data) -> int:
    """E + F"""
    return sum(place.stop - place.start for _, place in _columns(data))


def _columns(data: Data) -> Iterator[tuple[str, slice]]:
    """Each feature with its columns: pooled embeddings first, then dense inputs."""
    features, first = dict(data.id_features()), 0
    widths = {name: features[f.table or name].embedding_dim or 0 for name, f in features.items()}
    for name, width in {**widths, **{name: 1 for name, _ in data.dense_features()}}.items():
        yield name, slice(first, first + width)
        first += width


def _is_alike(new: Data, old: Data, name: str, old_name: str) -> bool:
    """Whether a feature is of one kind in both, and so its columns are of one meaning."""
    return new.features[name].kind == old.features[old_name].kind


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
    found = {}
    for owner in table_sizes(new):
        old_owner = renaming.old_name(owner)
        if old_owner not in sizes:
            continue
        sharers = [name for name, f in new.id_features() if (f.table or name) == owner]
        before = [name for name, f in old.id_features() if (f.table or name) == old_owner]
        if [renaming.old_name(name) for name in sharers] == before:
            continue
        values = slice(0, ours[owner].for_values)
        nulls = [
            (_one(ours[name].missing), _one(theirs[renaming.old_name(name)].missing))
            for name in sharers
            if renaming.old_name(name) in before
        ]
        found[owner] = TableRowsThere(sizes[old_owner], ((values, values), *nulls))
    return found


def _one(row: int) -> slice:
    return slice(row, row + 1)


def refuse_other_tables(
    new: RunConfig,
    old: RunConfig,
    warm_start: WarmStart,
    families: Mapping[str, str],
    old_families: Mapping[str, str],
) -> None:
    """Nothing, where the rows of each table that is taken over mean the same in both runs.

    Args:
        families: what the columns of data.train hold, by `<place>:<column>`.
        old_families: what they held there.

    Raises:
        UserError: a table has another size, or its ids have another type.
    """
    if "tables" not in warm_start.parts:
        return
    renaming, there = Renaming(warm_start.rename), dict(old.data.id_features())
    for name, feature in new.data.id_features():
        before = there.get(renaming.old_name(name))
        if before is None:
            continue
        place = f"data.features.{name}"
        advice = (
            "leave it as it was there, or give the feature another name here (with `column: "
            f"{feature.column or name}`), under which it begins anew"
        )
        for setting in ("rows", "embedding_dim", "table"):
            was, now = getattr(before, setting), getattr(feature, setting)
            if setting == "table" and was is not None and now is not None:
                now = renaming.old_name(now)
            if was != now:
                raise UserError(
                    f"{place}.{setting} is {now} and was {was} in the run of run.warm_start, so "
                    f"the table's rows would mean other ids; {advice}"
                )
        old_place = f"data.features.{renaming.old_name(name)}"
        held = _kind(families.get(f"{place}:{feature.column or name}"))
        old_column = before.column or renaming.old_name(name)
        was_held = _kind(old_families.get(f"{old_place}:{old_column}"))
        if held and was_held and held != was_held:
            raise UserError(
                f"{place} holds {held} in data.train and held {was_held} in the run of "
                "run.warm_start, so the same id would have another row; write the column with one "
                "type, or give the feature another name here, under which it begins anew"
            )


def _kind(family: str | None) -> str | None:
    """`integers` or `strings`; None where nothing is known of the column."""
    if family is None or family.endswith("null"):
        return None
    return "strings" if family.endswith("string") else "integers"
