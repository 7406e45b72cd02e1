"""First values from another run's checkpoint, by name, with a report of what had a namesake."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from recsys_mtl.config import RunConfig, UserError, WarmStart
from recsys_mtl.distributed.resized import copy_rows, has_all_rows, with_rows
from recsys_mtl.worker.inherited import (
    Columns,
    feature_changes,
    input_width,
    moved_rows,
    part_of,
    same_columns,
)
from recsys_mtl.worker.job import FirstValues
from recsys_mtl.worker.named_tensors import LoadReport, load_matching
from recsys_mtl.worker.renaming import Renaming, refuse_unknown_names
from recsys_mtl.worker.state import Worker

_KINDS = ("", "first_moment.", "second_moment.")  # a parameter, and what Adam keeps of it


@dataclass(frozen=True)
class WarmStartReport:
    """What a run took from another one."""

    run: str
    """That run and its checkpoint."""
    step: int
    """Steps that it had trained."""
    matched: tuple[str, ...]
    """Names here of what was taken over."""
    by_column: tuple[str, ...]
    """Those of them of which only the columns of features in both runs were."""
    new: tuple[str, ...]
    """Names here that have no namesake there."""
    dropped: tuple[str, ...]
    """Names there, of the parts asked for, that have no namesake here."""
    new_features: tuple[str, ...]
    """Features here that have no namesake of their kind there."""
    dropped_features: tuple[str, ...]
    """Features there that have no namesake of their kind here."""
    changed: tuple[str, ...]
    """Features of both that are not what they were: `price: mean 0 -> 100, std 1 -> 30`."""

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def lines(self) -> list[str]:
        """Sentences for a person."""
        lines = [
            f"warm start from {self.run} (step {self.step:,}): {len(self.matched)} names matched, "
            f"{len(self.new)} new, {len(self.dropped)} dropped"
        ]
        for what, names in (
            ("features that are new", self.new_features),
            ("features dropped", self.dropped_features),
            ("features changed", self.changed),
            ("only the columns of features in both", self.by_column),
            ("new, with random first values", self.new),
            ("dropped", self.dropped),
        ):
            if names:
                lines.append(f"warm start, {what}: {', '.join(names)}")
        return lines


def take_first_values(worker: Worker, first: FirstValues, settings: WarmStart) -> WarmStartReport:
    """Load what has a namesake into a worker before its first step; every worker calls it.

    Raises:
        UserError: something has another shape there, or a name to rename is not to be found.
    """
    renaming = Renaming(settings.rename)
    here = {n: t for n, t in worker.state_dict().items() if part_of(n) in settings.parts}
    saved_as = renaming.old_names(here)
    by_column = _inputs(worker, first.config, renaming, here)
    by_row = _tables_of_other_rows(worker, first.config, renaming, here)
    in_parts = by_column | by_row
    wanted = here | {name: part.there for name, part in in_parts.items()}
    with first.source.as_folder() as folder:
        report = load_matching(wanted, folder, saved_as)
    _refuse_other_shapes(report, first)
    refuse_unknown_names(
        settings.rename,
        worker.config.data,
        first.config.data,
        here=[*report.matched, *report.new],
        there=[*renaming.old_names(report.matched).values(), *report.dropped],
    )
    matched = set(report.matched)
    for name, part in in_parts.items():
        if name in matched:  # a new task's gate keeps its random values
            part.copy()
    features = feature_changes(worker.config.data, first.config.data, renaming)
    return WarmStartReport(
        run=first.name,
        step=first.step,
        matched=report.matched,
        by_column=tuple(name for name in by_column if name in matched),
        new=report.new,
        dropped=tuple(name for name in report.dropped if part_of(name) in settings.parts),
        new_features=features.new,
        dropped_features=features.dropped,
        changed=features.changed,
    )


class _InParts(NamedTuple):
    """Something of which only a part has a meaning in both runs."""

    there: Any
    """Room for all of it as it is there."""
    copy: Callable[[], None]
    """Takes the part over, once `there` is loaded."""


def _inputs(
    worker: Worker, old: RunConfig, renaming: Renaming, here: Mapping[str, Any]
) -> dict[str, _InParts]:
    """Where the features differ, what reads the inputs by column, by name."""
    columns = same_columns(worker.config.data, old.data, renaming)
    readers = worker.model.body.input_parameters()
    if columns is None or not any(part_of(name) == "dense" for name in here):
        return {}
    if readers is None:
        raise UserError(
            f"run.warm_start: the features are not those of the other run, and the body "
            f"{type(worker.model.body).__name__} does not say which parameters read them "
            "(input_parameters); declare it, or take run.warm_start.parts: [tables]"
        )
    names = [f"{kind}{name}" for kind in _KINDS for name in sorted(readers)]
    return {n: _columns_of(here[n], input_width(old.data), columns) for n in names if n in here}


def _columns_of(tensor: Tensor, width_there: int, columns: Sequence[Columns]) -> _InParts:
    there = tensor.new_zeros(*tensor.shape[:-1], width_there)

    def copy() -> None:
        for feature in columns:
            tensor.detach()[..., feature.here] = there[..., feature.there]

    return _InParts(there, copy)


def _tables_of_other_rows(
    worker: Worker, old: RunConfig, renaming: Renaming, here: Mapping[str, Any]
) -> dict[str, _InParts]:
    """Tables that more, fewer or other features read than there, with their optimizer's state."""
    found = {}
    for owner, rows in moved_rows(worker.config.data, old.data, renaming).items():
        for name in (f"tables.{owner}", f"accumulator.tables.{owner}"):
            if name not in here:
                continue
            if not has_all_rows(here[name]):
                raise UserError(
                    f"run.warm_start: other features read the table of {owner!r} than there, and "
                    "it is cut by rows; start with sharding kind table_wise or column_wise"
                )
            there = with_rows(here[name], rows.total)
            found[name] = _InParts(there, partial(copy_rows, here[name], there, rows.pairs))
    return found


def _refuse_other_shapes(report: LoadReport, first: FirstValues) -> None:
    """Raise UserError where something is in both runs, but not of one shape."""
    if not report.other_shape:
        return
    other, more = report.other_shape[0], len(report.other_shape) - 1
    raise UserError(
        f"run.warm_start: {other.name} is {_sizes(other.saved)} in {first.name} and "
        f"{_sizes(other.wanted)} here{f', and {more} more differ' if more else ''}; give the model "
        "and the optimizers the sizes they had there, or leave that part out of "
        "run.warm_start.parts"
    )


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
