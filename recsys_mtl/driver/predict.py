"""Scores a log with a trained run: one output file per input file, beside the columns to keep."""

import fnmatch
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from recsys_mtl.config import UserError
from recsys_mtl.data.manifest import Manifest, common_folder, read_manifest
from recsys_mtl.data.schema import probability_column
from recsys_mtl.driver.lease import Lease
from recsys_mtl.driver.scoring import run_scoring
from recsys_mtl.driver.storage import TEMPORARY, Folder, storage_url
from recsys_mtl.driver.trained_run import TrainedRun, open_run, refuse_other_ids, scoring_config
from recsys_mtl.model.bodies.build import BodyFactory
from recsys_mtl.worker.job import PredictionJob, TrainedModel

_RECORD = "_prediction.json"
"""Says in the output folder what its files are of; readers of Parquet folders pass it over."""


def predict(
    run_url: str,
    data_url: str,
    out_url: str,
    *,
    keep: Sequence[str] = (),
    checkpoint: str = "last",
    overrides: Sequence[str] = (),
    body: BodyFactory | None = None,
) -> dict[str, Any]:
    """Score every row of a log, or go on with it, and return how much there was to do.

    Args:
        run_url: the run's folder.
        data_url: the log; its labels may be absent.
        out_url: a folder that is empty, missing, or holds a part of the same prediction.
        keep: columns of the log that stand beside the probabilities.
        checkpoint: `last`, `best`, or the name of one.
        overrides: `A.B=VALUE` each, of settings that only say how to score.
        body: makes the body of one's own that the run was trained with.

    Returns:
        `run`, `out`, `files`, `rows`, and `files_before`, which were there already.

    Raises:
        UserError: run, log, column or folder forbid it.
        TrainingError: a worker failed; the same call goes on from the files that are there.
    """
    run = open_run(run_url, checkpoint)
    config, kept = scoring_config(run, overrides), tuple(dict.fromkeys(keep))
    _refuse_kept_names(kept, config.task_names)
    columns = dict.fromkeys(kept, "--keep")
    log = read_manifest(data_url, config.data, labelled=False, others=columns)
    refuse_other_ids(run, log)
    names = names_of_outputs(log)
    output = Folder(storage_url(out_url), named="--out")
    _refuse_inside(output, log, names)
    job = PredictionJob(
        model=TrainedModel(config, run.source, body),
        log=log,
        output=output,
        names=names,
        keep=kept,
    )
    with Lease(output.url, what="prediction", done="written").held(lambda: None):
        _begin(output, _identity(run, job), set(names.values()))
        missing = set(names.values()) - set(output.files())
        if missing:
            run_scoring(job, "predicting", log.rows)
        _refuse_scattered(output, missing)
        _remove_unfinished(output)
    return {
        "run": run.url,
        "checkpoint": run.checkpoint.name,
        "out": output.url,
        "files": len(names),
        "rows": log.rows,
        "files_before": len(names) - len(missing),
    }


def names_of_outputs(log: Manifest) -> dict[str, str]:
    """File of the log to the name of its output: the same, below the folder they share."""
    files = sorted([*log.files, *log.empty_files])
    root = f"{common_folder(files)}/"
    return {file: file.removeprefix(root) for file in files}


def _refuse_kept_names(keep: Sequence[str], task_names: Sequence[str]) -> None:
    for task in task_names:
        if probability_column(task) in keep:
            raise UserError(
                f"--keep {probability_column(task)} has the name of a column of scores; leave it "
                "out, or rename it in the log"
            )


def _refuse_inside(output: Folder, log: Manifest, names: Mapping[str, str]) -> None:
    """Raise UserError where outputs would be read as a part of the log the next time."""
    filesystem, path = fsspec.core.url_to_fs(log.url)
    here, root = output.path, path.rstrip("/")
    if isinstance(filesystem, LocalFileSystem):  # a link may lead into the log
        here, root = (str(Path(place).resolve()) for place in (here, root))
    inside = filesystem.isdir(path) and f"{here}/".startswith(f"{root}/")
    if inside or any(fnmatch.fnmatch(f"{here}/{name}", root) for name in names.values()):
        raise UserError(
            f"--out {output.url} lies in the log ({log.url}), of which its files would be a part; "
            "choose a folder outside it"
        )


def _refuse_scattered(output: Folder, written: set[str]) -> None:
    """Raise UserError where workers wrote what this machine does not see."""
    gone = written - set(output.files())
    if gone:
        raise UserError(
            f"--out {output.url}: {len(gone):,} files were written, but not where this machine "
            f"sees them ({min(gone)}, say), as on the workers' own disks; give a folder or URL "
            "that every node reaches"
        )


def _identity(run: TrainedRun, job: PredictionJob) -> dict[str, Any]:
    """What tells one prediction from another, by what a person calls it."""
    return {
        "the run": run.url,
        "the checkpoint": run.checkpoint.name,
        "the time at which it was saved": run.metadata.saved_at,
        "the log's files, rows and footers": job.log.digest,
        "the columns to keep": list(job.keep),
        "training.precision": job.model.config.training.precision,
    }


def _begin(output: Folder, identity: dict[str, Any], names: set[str]) -> None:
    """Say in the folder what its files are, and remove what a killed start left unfinished.

    Raises:
        UserError: it holds something else.
    """
    content = output.read(_RECORD)
    if content is None:
        if output.exists() and not output.is_empty():
            raise UserError(
                f"--out {output.url} holds other files; choose a folder that is empty or missing"
            )
        output.write(_RECORD, json.dumps(identity, indent=2).encode())
        return
    try:
        earlier = dict(json.loads(content))
    except (TypeError, ValueError):
        earlier = {}
    changed = [name for name in identity if earlier.get(name) != identity[name]]
    if changed:
        name = changed[0]
        was = f"{name} was {earlier.get(name)!r} and is {identity[name]!r}"
        advice = "choose another folder, or delete it"
        if name == "the checkpoint" and name in earlier:
            advice = f"--checkpoint {earlier[name]} goes on with it; or {advice}"
        raise UserError(f"--out {output.url} holds another prediction: {was}; {advice}")
    _remove_unfinished(output)
    others = [name for name in output.files() if name != _RECORD and name not in names]
    if others:
        raise UserError(
            f"--out {output.url} holds other files ({others[0]}); remove them, or choose another "
            "folder"
        )


def _remove_unfinished(output: Folder) -> None:
    """Remove what workers that were killed have left."""
    for name in output.names():
        if name.startswith(TEMPORARY):
            output.remove_folder(name)
