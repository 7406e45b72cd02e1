"""Refuses a warm start from a run in which the same name means something else."""

from collections.abc import Mapping
from typing import NamedTuple

from recsys_mtl.config import (
    DenseFeature,
    IdFeature,
    OneHotFeature,
    RunConfig,
    UserError,
    WarmStart,
)
from recsys_mtl.worker.inherited import namesakes
from recsys_mtl.worker.renaming import Renaming


class _InBoth(NamedTuple):
    """A feature of both runs."""

    name: str
    """Here."""
    column: str
    """Here."""

    @property
    def place(self) -> str:
        return f"data.features.{self.name}"

    def refuse(self, setting: str, now: object, was: object, so: str) -> None:
        """Raise UserError where a setting is not what it was."""
        if now != was:
            raise UserError(
                f"{self.place}.{setting} is {now} and was {was} in the run of run.warm_start, so "
                f"{so}; leave it as it was there, or give the feature another name here (with "
                f"`column: {self.column}`), under which it begins anew"
            )


def refuse_other_meanings(
    new: RunConfig,
    old: RunConfig,
    warm_start: WarmStart,
    families: Mapping[str, str],
    old_families: Mapping[str, str],
) -> None:
    """Nothing, where each feature that both runs have says the same to what is taken over.

    Other means, standard deviations, fills and values of a vocabulary are no fault: they follow the
    log, day by day.

    Args:
        families: what the columns of data.train hold, by `<place>:<column>`.
        old_families: what they held there.

    Raises:
        UserError: a feature is pooled or transformed otherwise, its table has another size, or its
            ids or its vocabulary have another type.
    """
    renaming = Renaming(warm_start.rename)
    for name, old_name in namesakes(new.data, old.data, renaming).items():
        now, was = new.data.features[name], old.data.features[old_name]
        feature = _InBoth(name, now.column or name)
        if isinstance(now, IdFeature) and isinstance(was, IdFeature):
            if not {"tables", "moments"}.isdisjoint(warm_start.parts):
                _refuse_other_table(feature, now, was, renaming)
                old_column = f"data.features.{old_name}:{was.column or old_name}"
                held = families.get(f"{feature.place}:{feature.column}")
                _refuse_other_type(feature, _kind(held), _kind(old_families.get(old_column)))
            so = "what was learned of its lists would mean something else"
            feature.refuse("pooling", now.pooling, was.pooling, so)
        if isinstance(now, DenseFeature) and isinstance(was, DenseFeature):
            so = "the model would read other numbers than those it has learned from"
            if "dense" in warm_start.parts:
                feature.refuse("transform", now.transform, was.transform, so)
        if isinstance(now, OneHotFeature) and isinstance(was, OneHotFeature):
            held, held_there = (
                "of strings" if f.holds_strings else "of integers" for f in (now, was)
            )
            if "dense" in warm_start.parts:
                feature.refuse("vocabulary", held, held_there, "no value would be one that it had")


def _refuse_other_table(
    feature: _InBoth, now: IdFeature, was: IdFeature, renaming: Renaming
) -> None:
    so = "the table's rows would mean other ids"
    there = None if now.table is None else renaming.old_name(now.table)
    if there != was.table or (now.table is None) != (was.table is None):
        has = "its own" if now.table is None else now.table
        if there != now.table:
            has += " (which is new)" if there is None else f" ({there} there)"
        feature.refuse("table", has, was.table or "its own", so)
    feature.refuse("rows", now.rows, was.rows, so)
    feature.refuse("embedding_dim", now.embedding_dim, was.embedding_dim, so)


def _refuse_other_type(feature: _InBoth, held: str | None, was_held: str | None) -> None:
    if held and was_held and held != was_held:
        raise UserError(
            f"{feature.place} holds {held} in data.train and held {was_held} in the run of "
            "run.warm_start, so the same id would have another row; write the column with one "
            "type, or give the feature another name here, under which it begins anew"
        )


def _kind(family: str | None) -> str | None:
    """`integers` or `strings`; None where nothing is known of the column."""
    if family is None or family.endswith("null"):
        return None
    return "strings" if family.endswith("string") else "integers"
