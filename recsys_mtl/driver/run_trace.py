"""The trace of a run that is finished, still going or was ended, with what its columns mean."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import yaml

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.driver.storage import Folder, storage_url
from recsys_mtl.gradients.operations import operations_of
from recsys_mtl.metrics.columns import Column, trace_columns
from recsys_mtl.metrics.trace import read_trace
from recsys_mtl.metrics.trace_summary import columns_in
from recsys_mtl.worker.methods import method_of


@dataclass(frozen=True)
class RunTrace:
    """What a run's folder says of its steps."""

    name: str
    """The run's."""
    is_finished: bool
    """Whether there is a result.json; without one it still goes on, or was ended early."""
    table: pa.Table
    """From `read_trace`, at least one row."""
    columns: list[Column]
    """Of the table, in its order."""


def load_run_trace(run: str) -> RunTrace:
    """Read a run's trace.

    Args:
        run: the run's folder: a local path or any fsspec URL.

    Raises:
        UserError: there is no run, no trace yet, or one that cannot be read.
    """
    if run.endswith((".yaml", ".yml")):
        raise UserError(
            f"{run} is a run's YAML; give the folder that the run writes to, <run.storage_path>/"
            "<run.name>"
        )
    url = storage_url(run)
    files = Folder(url)
    config = _config(files, run)
    method = method_of(config, operations_of("torch"))
    known = trace_columns(config.task_names, method.diagnostics)
    try:
        table = read_trace(f"{url}/trace")
    except FileNotFoundError:
        raise UserError(
            f"run {config.run.name!r} in {url} has no trace yet; it is written every "
            f"training.log_interval_steps ({config.training.log_interval_steps}) steps"
        ) from None
    except ValueError as error:
        raise UserError(str(error)) from None
    return RunTrace(
        name=config.run.name,
        is_finished=files.exists("result.json"),
        table=table,
        columns=columns_in(table, known, config.task_names),
    )


def _config(files: Folder, run: str) -> RunConfig:
    text = files.read("config.yaml")
    if text is None:
        raise UserError(
            f"{run} is no run's folder, for it holds no config.yaml; give <run.storage_path>/"
            "<run.name> of a run that was started"
        )
    try:
        tree: Any = yaml.safe_load(text)
        return RunConfig.model_validate_json(json.dumps(tree))
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{files.url}/config.yaml is of another version of recsys-mtl or damaged "
            f"({type(error).__name__}); take the version that began the run"
        ) from None
