"""What a run leaves behind, under <storage_path>/<name>/, on any fsspec URL.

config.yaml   the resolved configuration
data.json     the training log's digest
result.json   when the run has finished
trace/        one row a step
traces.png    the trace, drawn
checkpoint_*  committed checkpoints, and Ray Train's own book-keeping
"""

import io
import json
import math
from collections.abc import Sequence
from typing import Any

import yaml

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.driver.storage import Folder, storage_url
from recsys_mtl.metrics.columns import Column
from recsys_mtl.metrics.figure import draw_traces
from recsys_mtl.metrics.trace import read_trace

_RAY_TRAIN_RECORD = "checkpoint_manager_snapshot.json"


class RunFolder:
    """One run's folder."""

    def __init__(self, config: RunConfig) -> None:
        self.url = f"{storage_url(config.run.storage_path)}/{config.run.name}"
        """Of the folder."""
        self._files = Folder(self.url)

    def earlier(self) -> tuple[RunConfig, str] | None:
        """The configuration and data digest of the run that is there; None where none is.

        Raises:
            UserError: it cannot be read by this version.
        """
        try:
            text = self._files.read("config.yaml")
            if text is None:
                return None
            config = RunConfig.model_validate_json(json.dumps(yaml.safe_load(text)))
            return config, str(json.loads(self._files.read("data.json") or "{}").get("digest", ""))
        except (TypeError, ValueError, yaml.YAMLError) as error:
            raise UserError(
                f"{self.url}/config.yaml is of another version of recsys-mtl or damaged "
                f"({type(error).__name__}); choose another run.name, or start anew with --fresh"
            ) from None

    def result(self) -> dict[str, Any] | None:
        """result.json; None where there is none."""
        text = self._files.read("result.json")
        return None if text is None else dict(json.loads(text))

    def begin(self, config: RunConfig, data_digest: str) -> None:
        """Write what a later start of the same name is compared with."""
        self._files.write("config.yaml", config.to_yaml().encode())
        self._files.write("data.json", json.dumps({"digest": data_digest}).encode())

    def finish(self, result: dict[str, Any], columns: Sequence[Column]) -> None:
        """Draw the trace, and write result.json, which makes the run a finished one."""
        picture = io.BytesIO()
        draw_traces(read_trace(f"{self.url}/trace"), columns, picture)
        self._files.write("traces.png", picture.getvalue())
        self._files.write("result.json", json.dumps(result, indent=2, allow_nan=False).encode())

    def has_checkpoint(self) -> bool:
        """Whether a checkpoint was ever committed: before that, there is no run to go on with."""
        return self._files.exists(_RAY_TRAIN_RECORD)

    def delete(self) -> None:
        """Remove the whole run.

        Raises:
            UserError: there is a folder, but not a run's.
        """
        if not self._files.exists():
            return
        if not self._files.exists("config.yaml") and not self._files.is_empty():
            raise UserError(
                f"--fresh would delete {self.url}, which holds no config.yaml of a run; delete it "
                "by hand or choose another run.name"
            )
        self._files.remove()


def result_of(config: RunConfig, metrics: dict[str, Any], wall_seconds: float) -> dict[str, Any]:
    """result.json, with null for what cannot be known.

    Args:
        metrics: of the last report, whose checkpoint is the run's end.
    """
    totals, steps = metrics["totals"], metrics["step"]
    tasks = {
        task: {
            "auc": _known(numbers["auc"]),
            "log_loss": _known(numbers["log_loss"]),
            "calibration": _known(numbers["calibration"]),
            "positives": numbers["positives"],
            "rows": numbers["rows"],
            "not_finite": numbers["not_finite"],
            "mean_weight": totals["weight_sums"][task] / steps,
        }
        for task, numbers in metrics["evaluation"].items()
    }
    deconflicts = config.method.kind != "uniform"
    return {
        "run": config.run.name,
        "finished": True,
        "world_size": config.cluster.num_workers,
        "epochs": metrics["epochs"],
        "steps": steps,
        "rows": totals["rows"],
        "rows_per_second": totals["rows"] / totals["seconds"],
        "wall_seconds": wall_seconds,
        "method": config.method.model_dump(mode="json"),
        "tasks": tasks,
        # Steps that compared the tasks' gradients, and those of them that saw a conflict. The
        # uniform sum has no gradient per task.
        "compared_steps": totals["compared_steps"] if deconflicts else None,
        "conflicting_steps": totals["conflicting_steps"] if deconflicts else None,
        "min_norm_steps": totals["min_norm_steps"] if deconflicts else None,
        # Of the steps that compared cheaper coefficients with every task's gradient.
        "audited_steps": totals["audited_steps"],
        "opposing_steps": totals["opposing_steps"],
        "skipped_steps": totals["skipped_steps"],
        "rejected_rows": sum(totals["rejected_rows"].values()),
        "rejected_rows_by_reason": totals["rejected_rows"],
        "nulls": {column: count for column, count in totals["nulls"].items() if count},
        "parameters": metrics["parameters"],
        # Handed to collective operations by all workers together.
        "bytes_sent_per_step": {k: count / steps for k, count in totals["bytes_sent"].items()},
        "sharding": metrics["sharding"],
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
