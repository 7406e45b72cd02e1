"""Names here and in another run's checkpoint, which `run.warm_start.rename` may make differ."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from recsys_mtl.config import Data, UserError


class Renaming:
    """Finds for what is here the name that it had there.

    A name that is renamed is free for something new: with `{item: product}`, `tables.product` is
    `tables.item` there, and `tables.item` has no namesake there. A swap `{a: b, b: a}` is two names
    that are renamed at once.
    """

    def __init__(self, rename: Mapping[str, str]) -> None:
        """Take names there to names here.

        Raises:
            UserError: two names there would have one name here.
        """
        self._there = {new: old for old, new in rename.items()}
        if len(self._there) < len(rename):
            raise UserError(
                "run.warm_start.rename gives two names the same new name; give each its own"
            )
        self._free = rename.keys() - self._there.keys()
        names = sorted({*self._there, *self._free}, key=len, reverse=True)
        either = "|".join(re.escape(name) for name in names)
        self._pattern = re.compile(rf"(?<![^.])(?:{either})(?![^.])") if names else None

    def old_name(self, name: str) -> str | None:
        """The name there of what is called `name` here; None where it has no namesake there.

        Names are replaced where they stand whole between the dots of `name`, all at once.
        """
        if self._pattern is None:
            return name
        if not self._free.isdisjoint(self._pattern.findall(name)):
            return None
        return self._pattern.sub(lambda found: self._there[found[0]], name)

    def old_names(self, names: Iterable[str]) -> dict[str, str | None]:
        """`old_name` of each, by its name here.

        Raises:
            UserError: two of them have one name there.
        """
        here_of: dict[str, str] = {}
        found = {name: self.old_name(name) for name in names}
        for here, there in found.items():
            if there is None:
                continue
            other = here_of.setdefault(there, here)
            if other != here:
                raise UserError(
                    f"run.warm_start.rename: {other} and {here} would both begin with {there} of "
                    "the other run; rename whole names of features, tasks or layers, none of "
                    "which stands in another"
                )
        return found


def refuse_unknown_names(
    rename: Mapping[str, str],
    new: Data,
    old: Data,
    *,
    here: Iterable[str],
    there: Iterable[str | None],
) -> None:
    """Nothing, where everything that is renamed is there, and here under its new name.

    Args:
        here: names of parameters of the new run, of the parts that are taken over. Dense features
            and those that share a table have none, so the features' and tasks' names count, too.
        there: names of those of the old one.

    Raises:
        UserError: nothing is called so in the one place or the other.
    """
    known_here = [*new.features, *new.labels, *here]
    known_there = [*old.features, *old.labels, *(name for name in there if name)]
    for old_name, new_name in rename.items():
        if not _stands_in_one(old_name, known_there):
            near = difflib.get_close_matches(old_name, [*old.features, *old.labels], n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(
                f"run.warm_start.rename: nothing is called {old_name!r} in the other run{hint}; it "
                f"has the features {_some(old.features)} and the tasks {_some(old.labels)}"
            )
        if not _stands_in_one(new_name, known_here):
            raise UserError(
                f"run.warm_start.rename: {old_name!r} becomes {new_name!r}, but nothing here is "
                "called so; give the name of a feature, a task or a layer of this run"
            )


def _stands_in_one(name: str, longer: Iterable[str]) -> bool:
    """Whether a name stands whole between the dots of one of the longer ones."""
    return any(f".{name}." in f".{whole}." for whole in longer)


def _some(names: Collection[str]) -> str:
    return ", ".join(list(names)[:8]) + (", ..." if len(names) > 8 else "")
