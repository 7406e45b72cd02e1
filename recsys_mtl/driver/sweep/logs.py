"""The logs that a sweep reads, and the runs on them that an earlier call began."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys_mtl.config import Data, RunConfig, UserError
from recsys_mtl.config.changes import changes
from recsys_mtl.data.event_times import refuse_too_short_logs
from recsys_mtl.data.manifest import Manifest, read_manifest
from recsys_mtl.data.schema import DataError, refuse_other_families
from recsys_mtl.driver.storage import Folder
from recsys_mtl.driver.sweep.cells import Cell

_CHANGES_NO_SCORE = (
    "run.storage_path",
    "data.train",  # the digests say whether the rows are still the same
    "data.eval",
    "data.prefetch_batches",
    "training.log_interval_steps",
    "training.auc_window_steps",
    "training.checkpoint_interval_steps",
    "training.checkpoints_kept",
    "gradients.backend",
    "gradients.audit_interval_steps",
    "cluster",
    "metrics",
)
"""Settings and sections that may differ between two calls of the same sweep."""


@dataclass(frozen=True)
class Logs:
    """What a cell reads."""

    train: Manifest
    eval: Manifest
    test: Manifest | None


def read_logs(cells: Sequence[Cell], test: str | None) -> dict[str, Logs]:
    """Read the footers of every log that a cell needs, each once.

    Args:
        test: the log of `--test`, if any.

    Returns:
        By the cell's name.

    Raises:
        UserError: a log is not there, or cannot be trained on or judged by.
    """
    known: dict[str, Logs] = {}
    found: dict[str, Logs] = {}
    for cell in cells:
        data = cell.config.data
        key = data.model_dump_json()
        if key not in known:
            known[key] = _read(data, test)
        found[cell.name] = known[key]
    return found


def _read(data: Data, test: str | None) -> Logs:
    train, evaluation = read_manifest(data.train, data), read_manifest(data.eval, data)
    refuse_too_short_logs(train.event_times, data, train.url)
    refuse_other_families(
        evaluation.column_families, train.column_families, here="data.eval", there="data.train"
    )
    if test is None:
        return Logs(train, evaluation, None)
    judged = _read_test(test, data)
    refuse_other_families(
        judged.column_families, train.column_families, here="--test", there="data.train"
    )
    _refuse_files_of(evaluation, judged, "data.eval", "arms are compared on already")
    _refuse_files_of(train, judged, "data.train", "arms are trained on")
    return Logs(train, evaluation, judged)


def _read_test(test: str, data: Data) -> Manifest:
    try:
        return read_manifest(test, data)
    except DataError as error:
        raise DataError(f"--test {test}: {str(error).removeprefix(f'{test}: ')}") from None


def _refuse_files_of(other: Manifest, judged: Manifest, named: str, what_for: str) -> None:
    """Nothing, where no file of the test log is a file of another log, or a copy of one.

    Files are told apart by their footers, which hold row counts, column sizes and statistics, so
    that a file is known under another name. What is not seen: rows of the other log that were
    written into another file, alone or beside new ones.

    Args:
        named: the setting of the other log.
        what_for: what arms use its rows for.

    Raises:
        UserError: one is; names both files.
    """
    file_of = {digest: file for file, digest in other.footer_digests.items()}
    for file, digest in judged.footer_digests.items():
        if digest in file_of:
            same = file_of[digest]
            is_what = "is a file" if same == file else f"is a copy of {same}, a file"
            raise UserError(
                f"--test {judged.url}: {file} {is_what} of {named} ({other.url}), which "
                f"{what_for}; give a log without it, that nothing was trained on or chosen by"
            )


def refuse_changed_cells(
    cells: Sequence[Cell],
    logs: Mapping[str, Logs],
    begun_with: Callable[[Cell], RunConfig | None],
) -> None:
    """Nothing, where the runs that an earlier call began are those that this one would begin.

    A run itself may go on with another learning rate or a longer training. In a sweep, runs of the
    same arm would then differ by more than their seed.

    Args:
        begun_with: the configuration with which an earlier call began a cell; None if none did.

    Raises:
        UserError: one of them is not; names the differences.
    """
    for cell in cells:
        earlier = begun_with(cell)
        if earlier is None:
            continue
        differences = changes(earlier, cell.config, _CHANGES_NO_SCORE)
        before = _digests(cell)
        for part, manifest in (("train", logs[cell.name].train), ("eval", logs[cell.name].eval)):
            if before[part] != manifest.digest:
                differences.append(f"data.{part}: the rows of {manifest.url} are others now")
        if differences:
            raise UserError(
                f"the run {cell.name} of this sweep was begun with another configuration: "
                f"{'; '.join(differences)}. Change it back, or give another folder by --out"
            )


def _digests(cell: Cell) -> dict[str, Any]:
    said = json.loads(Folder(cell.url).read("data.json") or b"{}")
    return {"train": said.get("digest"), "eval": said.get("eval_digest")}
