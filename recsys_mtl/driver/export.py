"""A run's checkpoint to a bundle (`recsys_mtl/serving/bundle.py`), without Ray.

Tables go from the checkpoint's shards straight into the bundle's files, one after the other.
"""

import io
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys_mtl.config import FeatureColumns, RunConfig, UserError
from recsys_mtl.data.features import table_rows, table_sizes
from recsys_mtl.data.schema import (
    feature_columns,
    probability_column,
)
from recsys_mtl.driver.export_examples import write_examples
from recsys_mtl.driver.storage import Folder, storage_url
from recsys_mtl.driver.trained_run import TrainedRun, open_run
from recsys_mtl.model.bodies.build import BodyFactory, body_factory, build_body
from recsys_mtl.model.bodies.contract import BodyShape, MultiTaskBody
from recsys_mtl.model.ownership import BodyError
from recsys_mtl.model.served import export_body
from recsys_mtl.serving.bundle import (
    BUNDLE_VERSION,
    DESCRIPTION,
    MODEL,
    Bundle,
    Origin,
    StoredTable,
    TableType,
    columns_of,
    id_encoding,
    write_checksums,
)
from recsys_mtl.worker.body import body_shape, refuse_another_body
from recsys_mtl.worker.named_tensors import CheckpointError, compare_tensors, load_alone


def export_run(
    url: str,
    out: str,
    *,
    checkpoint: str = "last",
    examples: str | None = None,
    tables: TableType = "float32",
    body: BodyFactory | None = None,
) -> Bundle:
    """Write the bundle of a run's checkpoint; it appears whole, or not at all.

    Args:
        url: the run's folder.
        out: a folder or URL, not there yet or empty.
        checkpoint: `last`, `best` or a name.
        examples: a log whose first rows become the bundle's examples; data.eval when not given.
        tables: the type of their numbers; float16 halves the bundle, and probabilities move.
        body: makes the body that the run was trained with, where that was one of the user's own.

    Raises:
        UserError: there is no such run or checkpoint, `out` holds files or cannot be written, the
            checkpoint is damaged or does not hold this body, the body cannot be exported, or the
            log of examples cannot be read.
    """
    run = open_run(url, checkpoint)
    config = run.config
    _refuse_taken_names(config)
    parent, name = _place_of(out)
    with (
        _in_a_sentence(run, out),
        parent.new_folder(name) as folder,
        run.source.as_folder() as tensors,
    ):
        made = _read_body(config, tensors, body)
        refuse_another_body(made, run.metadata)
        bundle = _description(run, _write_tables(config.data, tensors, folder, tables))
        _write_model(made, body_shape(config), folder)
        (folder / DESCRIPTION).write_text(bundle.to_json(), encoding="utf-8")
        write_examples(config.data, folder, examples or config.data.eval)
        write_checksums(folder)
    return bundle


@contextmanager
def _in_a_sentence(run: TrainedRun, out: str) -> Iterator[None]:
    """Raise UserError where the checkpoint cannot be read or the bundle cannot be written."""
    try:
        yield
    except CheckpointError as error:
        raise UserError(
            f"the checkpoint {run.checkpoint.name} in {run.url} is damaged ({error}); restore it, "
            "or choose another one by --checkpoint"
        ) from error
    except OSError as error:
        raise UserError(
            f"--out: {out} cannot be written ({error}); give a folder with room for the bundle"
        ) from error


def _place_of(out: str) -> tuple[Folder, str]:
    """The folder that will hold the bundle, and the bundle's name there.

    Raises:
        UserError: there is something already.
    """
    url = storage_url(out)
    place = Folder(url, named="--out")
    if place.exists() and not place.is_empty():
        raise UserError(
            f"--out: {url} holds files already; give a folder that is not there yet, or an empty "
            "one"
        )
    parent, _, name = url.rpartition("/")
    return Folder(parent or "/", named="--out"), name


def _refuse_taken_names(config: RunConfig) -> None:
    """Raise UserError where the log has a column of the name of a task's probability."""
    for task in config.task_names:
        column = probability_column(task)
        if column in feature_columns(config.data.features):
            raise UserError(
                f"data.features reads a column {column!r}, which in a bundle and in served logs is "
                "what the model says; give the column another name and train again"
            )


def _read_body(config: RunConfig, checkpoint: Path, make: BodyFactory | None) -> MultiTaskBody:
    """The body with the checkpoint's parameters.

    Raises:
        UserError: the checkpoint does not hold all of them, or its tables are others.
    """
    body = build_body(make or body_factory(config.model), body_shape(config), config.run.seed)
    parameters = dict(body.shared_parameters())
    for task in range(len(config.task_names)):
        parameters |= body.task_parameters(task)
    wanted = {name: parameter.detach() for name, parameter in parameters.items()}
    tables = {
        f"tables.{owner}": torch.empty(shape, device="meta")
        for owner, shape in _table_shapes(config.data).items()
    }
    report = compare_tensors(wanted | tables, checkpoint)
    problems = [
        *(f"{name} is not in it" for name in report.new),
        *(f"{o.name} has shape {o.saved}, not {o.wanted}" for o in report.other_shape),
    ]
    if problems:
        raise UserError(
            f"the checkpoint of run {config.run.name!r} does not hold the body "
            f"{type(body).__name__} ({problems[0]}, and {len(problems) - 1} more); a run with a "
            "body of your own is exported from Python: export_run(run, out, body=...)"
        )
    load_alone(wanted, checkpoint)
    return body


def _table_shapes(data: FeatureColumns) -> dict[str, tuple[int, int]]:
    """[rows, D] by the feature that owns the table."""
    features = dict(data.id_features())
    return {
        owner: (rows, features[owner].embedding_dim or 0)
        for owner, rows in table_sizes(data).items()
    }


def _write_tables(
    data: FeatureColumns, checkpoint: Path, folder: Path, kind: TableType
) -> dict[str, StoredTable]:
    """Write each table from its shards into a file of its own.

    Raises:
        UserError: a number is too large for float16.
    """
    (folder / "tables").mkdir()
    stored = {}
    for owner, (rows, columns) in _table_shapes(data).items():
        file = f"tables/{owner}.npy"
        table = np.lib.format.open_memmap(
            folder / file, mode="w+", dtype=kind, shape=(rows, columns)
        )
        with (folder / file).open("rb+") as handle:
            # Without room, a write to the mapping would end the process by a signal.
            os.posix_fallocate(handle.fileno(), 0, table.offset + table.nbytes)
        load_alone({f"tables.{owner}": torch.from_numpy(table)}, checkpoint)
        if kind == "float16" and not np.isfinite(table).all():
            raise UserError(
                f"the table of {owner!r} holds numbers that are too large for float16; export it "
                "with float32 tables"
            )
        table.flush()
        stored[owner] = StoredTable(file=file, type=kind, rows=rows, columns=columns)
    return stored


def _write_model(body: MultiTaskBody, shape: BodyShape, folder: Path) -> None:
    """Write the body as a program.

    Raises:
        UserError: it cannot be exported.
    """
    try:
        program = export_body(body, shape)
    except BodyError as error:
        raise UserError(str(error)) from error
    content = io.BytesIO()
    torch.export.save(program, content)
    (folder / MODEL).write_bytes(content.getvalue())


def _description(run: TrainedRun, tables: dict[str, StoredTable]) -> Bundle:
    """features.json."""
    config, metadata = run.config, run.metadata
    return Bundle(
        bundle_version=BUNDLE_VERSION,
        run=Origin(
            name=config.run.name,
            checkpoint=run.checkpoint.name,
            step=metadata.step,
            precision=config.training.precision,
            metrics={task: _known(numbers) for task, numbers in metadata.evaluation.items()},
        ),
        tasks=config.task_names,
        features=config.data.features,
        columns=columns_of(config.data, metadata.column_families),
        tables=tables,
        null_rows={name: rows.missing for name, rows in table_rows(config.data).items()},
        id_encoding=id_encoding(),
        torch=str(torch.__version__),
    )


def _known(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a task, with None for those that are not known."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in numbers.items()
    }
