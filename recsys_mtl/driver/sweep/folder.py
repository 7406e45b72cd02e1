"""The folder of a sweep.

sweep.json    what the sweep has come to: cells, arms, choices
sweep.md      the same as tables
sweep.png     the same as a picture
runs/         one folder per cell, as `recsys-mtl train` leaves it
cells/        <cell>.yaml, the configuration that a cell was started with; <cell>.log, its output
test/         <cell>-<log>.json, what `evaluate` found on a test log (answers.py)
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.driver.run_folder import RunFolder
from recsys_mtl.driver.storage import Folder
from recsys_mtl.driver.sweep.answers import read_answer, training_digest
from recsys_mtl.driver.sweep.cells import Cell
from recsys_mtl.driver.sweep.outcomes import Failure, Outcome
from recsys_mtl.driver.sweep.report import markdown

_RECORD = "sweep.json"
_DIGITS_OF_LOG = 12  # of its digest, in names of files


class SweepFolder:
    """Where the files of a sweep lie, and what they say."""

    def __init__(self, path: str) -> None:
        """Name the folder, which need not be there yet.

        Raises:
            UserError: it is not on this machine.
        """
        if not path:
            raise UserError("--out is empty; give a folder, or leave it out")
        if "://" in path:
            raise UserError(
                f"--out {path} is no folder of this machine, which writes the logs of cells there; "
                "give a path that every node of the cluster reaches, too"
            )
        self.url = str(Path(path).expanduser().resolve())
        self.runs_url = f"{self.url}/runs"
        self._files = Folder(self.url, named="--out")
        self._begun_with: dict[str, RunConfig] = {}
        # Result and CPUs of finished cells, which change no more.
        self._finished: dict[str, tuple[dict[str, Any], int]] = {}

    def log_of(self, cell: Cell) -> Path:
        """The file with what the cell's processes have printed."""
        return Path(self.url, "cells", f"{cell.name}.log")

    def write_yaml(self, cell: Cell) -> Path:
        """Write the configuration of a cell, for its process."""
        path = Path(self.url, "cells", f"{cell.name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(cell.config.to_yaml(), encoding="utf-8")
        return path

    def answer_of(self, cell: Cell, test: Manifest) -> Path:
        """The file with what `evaluate` has found of a cell on this log."""
        return Path(self.url, "test", f"{cell.name}-{test.digest[:_DIGITS_OF_LOG]}.json")

    def begun_with(self, cell: Cell) -> RunConfig | None:
        """The configuration of the cell's run as it began; None where nothing of it would go on.

        Raises:
            UserError: it cannot be read by this version.
        """
        if cell.name not in self._begun_with:
            folder = RunFolder(cell.config)
            earlier = None if folder.trained_by() is None else folder.earlier()
            if earlier is None:
                return None
            self._begun_with[cell.name] = earlier[0]
        return self._begun_with[cell.name]

    def outcome(self, cell: Cell, test: Manifest | None, failure: Failure | None) -> Outcome:
        """What a cell has come to so far.

        Args:
            test: the log that judges it, if any.
            failure: of this call, if any.

        Raises:
            UserError: what the run has left is damaged.
        """
        if cell.name not in self._finished:
            result = _result_of(cell)
            trained = None if result is None else self.begun_with(cell)
            if result is None or trained is None:
                return Outcome(cell, None, 0, None, failure)
            cpus = result["world_size"] * trained.cluster.cpus_per_worker
            self._finished[cell.name] = (result, cpus)
        result, cpus = self._finished[cell.name]
        answer = None if test is None else self._answer(cell, result, test)
        return Outcome(cell, result, cpus, answer, failure)

    def _answer(
        self, cell: Cell, result: Mapping[str, Any], test: Manifest
    ) -> dict[str, Any] | None:
        """What the log has said of this training of the cell; None before it has."""
        path = self.answer_of(cell, test)
        return read_answer(path.read_bytes(), result, test.digest) if path.exists() else None

    def trainings(self, cells: Sequence[Cell]) -> dict[str, str]:
        """The digest of the training of each cell that is finished, by the cell's name."""
        results = ((cell, self.outcome(cell, None, None).result) for cell in cells)
        return {cell.name: training_digest(result) for cell, result in results if result}

    def read_record(self) -> dict[str, Any]:
        """What sweep.json holds; empty before the first call.

        Raises:
            UserError: it is damaged.
        """
        text = self._files.read(_RECORD)
        if text is None:
            return {}
        try:
            return dict(json.loads(text))
        except (TypeError, ValueError):
            raise UserError(
                f"{self.url}/{_RECORD} is damaged; restore it, for it says which test logs have "
                "been used, or give another folder by --out"
            ) from None

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write sweep.json and sweep.md."""
        self._files.write(_RECORD, json.dumps(record, indent=2, allow_nan=False).encode())
        self._files.write("sweep.md", markdown(record).encode())

    def write_picture(self, picture: bytes) -> None:
        """Write sweep.png."""
        self._files.write("sweep.png", picture)


def _result_of(cell: Cell) -> dict[str, Any] | None:
    try:
        return RunFolder(cell.config).result()
    except (TypeError, ValueError):
        raise UserError(
            f"{cell.url}/result.json is damaged; restore it, or delete {cell.url}, which the same "
            "command then trains anew"
        ) from None
