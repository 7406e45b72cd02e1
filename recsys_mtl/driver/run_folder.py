"""What a run leaves behind, under <storage_path>/<name>/, on any fsspec URL.

config.yaml   the resolved configuration
data.json     the digests of the logs
result.json   when the run has finished
trace/        one row per step
traces.png    the trace, drawn

A run on Ray has besides
checkpoint_*                      its checkpoints
checkpoint_manager_snapshot.json  Ray Train's index of those that are committed

A run that trains in its driver's process (cluster.num_workers: 0) has besides
local_checkpoint_*      its checkpoints
local_checkpoints.json  the index of those that are committed

`committed.checkpoints_of` reads both indexes. The local one is
{"checkpoints": [{"name": "local_checkpoint_000007", "step": 400, "score": 0.81,
                  "scored_by": "mean_auc@5d41402abc4b"}]}
with the oldest first; `score` is null where a checkpoint has none, and `scored_by` null without
training.best_by. Ray Train's holds what a worker said with each checkpoint, under "metrics":
{"step": 400, "scores": {"mean_auc@5d41402abc4b": 0.81}}, with the lowest
float for a checkpoint that has no score, and {} without training.best_by. The larger score is the
better: the log-loss has a minus.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import yaml

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.driver.committed import LOCAL_INDEX, RAY_INDEX, CommittedCheckpoint, checkpoints_of
from recsys_mtl.driver.storage import Folder, storage_url
from recsys_mtl.driver.stored_checkpoint import StoredCheckpoint
from recsys_mtl.metrics.columns import Column
from recsys_mtl.metrics.figure import draw_traces
from recsys_mtl.metrics.trace import read_trace
from recsys_mtl.worker.host import CheckpointSource

TrainedBy = Literal["ray", "this process"]
"""Ray Train's workers, or the process that started the run."""


class RunFolder:
    """One run's folder."""

    def __init__(self, config: RunConfig) -> None:
        self.url = f"{storage_url(config.run.storage_path)}/{config.run.name}"
        """Where the folder lies."""
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

    def checkpoints(self) -> list[CommittedCheckpoint]:
        """The committed checkpoints; see `checkpoints_of`."""
        return checkpoints_of(self._files)

    def result(self) -> dict[str, Any] | None:
        """result.json; None where there is none."""
        text = self._files.read("result.json")
        return None if text is None else dict(json.loads(text))

    @contextmanager
    def begun(
        self,
        config: RunConfig,
        train_digest: str,
        eval_digest: str,
        has_begun: Callable[[], bool],
    ) -> Iterator[None]:
        """Write what a later start of the same name is compared with, before the context.

        A start that is refused inside the context, before training has begun, leaves these files as
        they were.

        Args:
            train_digest: of the manifest of data.train.
            eval_digest: of the manifest of data.eval.
            has_begun: whether training has, asked after a refusal.
        """
        digests = {"digest": train_digest, "eval_digest": eval_digest}
        new = {"config.yaml": config.to_yaml(), "data.json": json.dumps(digests)}
        old = {name: self._files.read(name) for name in new}
        for name, text in new.items():
            self._files.write(name, text.encode())
        try:
            yield
        except UserError:
            if not has_begun():
                self._put_back(old)
            raise

    def _put_back(self, files: Mapping[str, bytes | None]) -> None:
        for name, content in files.items():
            if content is None:
                self._files.remove(name)
            else:
                self._files.write(name, content)

    def finish(self, result: dict[str, Any], columns: Sequence[Column]) -> None:
        """Draw the trace, and write result.json, which makes the run a finished one."""
        picture = io.BytesIO()
        draw_traces(read_trace(f"{self.url}/trace"), columns, picture)
        self._files.write("traces.png", picture.getvalue())
        self._files.write("result.json", json.dumps(result, indent=2, allow_nan=False).encode())

    def trained_by(self) -> TrainedBy | None:
        """Return whose committed checkpoints are there.

        None before the first one: there is no run yet that could go on.
        """
        if self._files.exists(RAY_INDEX):
            return "ray"
        return "this process" if self._files.exists(LOCAL_INDEX) else None

    def newest_checkpoint(self) -> CheckpointSource | None:
        """The newest committed checkpoint, whoever trained the run; None before the first.

        Raises:
            UserError: the index of checkpoints is damaged.
        """
        committed = checkpoints_of(self._files)
        return StoredCheckpoint(self._files, committed[-1].name) if committed else None

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
