"""What may differ when a run is gone on with."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from recsys_mtl.config.run import RunConfig
from recsys_mtl.config.section import UserError

MAY_CHANGE = (
    "run.storage_path",
    "data.train",  # the manifest's digest says whether the rows are still the same
    "data.eval",
    "data.prefetch_batches",
    "data.on_error",
    "training.epochs",
    "training.max_steps",
    "training.warm_up_steps",
    "training.log_interval_steps",
    "training.auc_window_steps",
    "training.checkpoint_interval_steps",
    "training.evaluation_interval_steps",
    "training.best_by",
    "training.patience_evaluations",
    "training.checkpoints_kept",
    "optimizer.schedule",
    "optimizer.dense.learning_rate",
    "optimizer.dense.weight_decay",
    "optimizer.tables.learning_rate",
    "sharding",
    "cluster",
    "metrics",
    "gradients.backend",
    "gradients.audit_interval_steps",
)
"""Settings, and sections as a whole."""

_LONG = 200
"""Characters of two values that are no longer shown whole."""


def refuse_changes(old: RunConfig, new: RunConfig, old_digest: str, new_digest: str) -> None:
    """Nothing, where `new` may go on with the run of `old`.

    Args:
        old_digest: of the manifest of data.train, then.
        new_digest: and now.

    Raises:
        UserError: it may not; names each difference.
    """
    found = changes(old, new)
    if old_digest != new_digest:
        found.append(
            f"data.train: the rows of {new.data.train} are no longer those of the run (to train on "
            "with a log that has grown, begin another run.name with run.warm_start: {from: <the "
            "folder of this run>})"
        )
    if found:
        raise UserError(
            f"run {new.run.name!r} was begun with another configuration: {'; '.join(found)}. "
            "Change it back, choose another run.name, or start anew with --fresh"
        )


def changes(old: RunConfig, new: RunConfig, may_change: Sequence[str] = MAY_CHANGE) -> list[str]:
    """What forbids going on with `old`'s run, each as `path: old -> new`.

    The order of features and of tasks counts: it is the order of weights and of task states.

    Args:
        may_change: settings and sections that are not looked at.
    """
    before, now = (settings_of(config) for config in (old, new))
    for leaves, config in ((before, old), (now, new)):
        leaves["data.features"] = list(config.data.features)
        leaves["data.labels"] = list(config.data.labels)
    changed = [p for p in sorted(before.keys() | now.keys()) if before.get(p) != now.get(p)]
    # Another kind has other settings: naming the kind says it all.
    kinds = tuple(p.removesuffix("kind") for p in changed if p.endswith(".kind"))
    return [
        f"{path}: {_difference(before.get(path), now.get(path))}"
        for path in changed
        if (path.endswith(".kind") or not path.startswith(kinds))
        and not any(path == p or path.startswith(p + ".") for p in may_change)
    ]


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Every setting of a configuration by its path, such as `method.alpha`."""
    return dict(_leaves(config.model_dump(mode="json")))


def _difference(before: Any, now: Any) -> str:
    """`0.1 -> 0.2`; of long lists, such as vocabularies, the first place where they differ."""
    both = isinstance(before, list) and isinstance(now, list)
    if not both or len(repr(before)) + len(repr(now)) <= _LONG:
        return f"{before!r} -> {now!r}"
    pairs = zip_longest(before, now)
    place, pair = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    return (
        f"{len(before):,} values -> {len(now):,} values, of which value {place + 1:,} is the first "
        f"that differs ({pair[0]!r} -> {pair[1]!r})"
    )


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree
