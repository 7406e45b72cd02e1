"""The committed checkpoints of a run, as the index of either host has them."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import Checkpoint
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager

from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.committed import (
    LOCAL_INDEX,
    RAY_INDEX,
    CommittedCheckpoint,
    best_of,
    checkpoints_of,
    local_index,
)
from recsys_mtl.driver.ray_host import _for_ray_train
from recsys_mtl.driver.ray_train import _checkpoints_to_keep
from recsys_mtl.driver.storage import Folder
from tests.unit.run_files import write_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")


def found(folder: Path) -> list[tuple[int, float | None]]:
    return [(c.step, c.score) for c in checkpoints_of(Folder(str(folder)))]


def test_a_run_without_an_index_has_no_checkpoints(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    assert found(tmp_path / "not there") == []


def test_a_local_index_is_read_back_with_its_scores(tmp_path: Path) -> None:
    written = [
        CommittedCheckpoint("local_checkpoint_000001", 5, 0.7, "mean_auc@a"),
        CommittedCheckpoint("local_checkpoint_000002", 8, None, "mean_auc@a"),
    ]
    (tmp_path / LOCAL_INDEX).write_bytes(local_index(written))
    assert checkpoints_of(Folder(str(tmp_path))) == written


def test_a_local_index_of_names_alone_has_steps_and_no_scores(tmp_path: Path) -> None:
    for number, step in ((1, 20), (2, 40)):
        folder = tmp_path / f"local_checkpoint_00000{number}"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"step": step}))
    names = ["local_checkpoint_000001", "local_checkpoint_000002"]
    (tmp_path / LOCAL_INDEX).write_text(json.dumps({"checkpoints": names}))
    assert found(tmp_path) == [(20, None), (40, None)]


def test_only_scores_of_the_newest_measure_count(tmp_path: Path) -> None:
    measures = ["mean_auc@a", "auc:wish@a", "mean_auc@b", "mean_auc@b"]
    written = [CommittedCheckpoint(f"c{s}", s, 0.5, m) for s, m in enumerate(measures)]
    (tmp_path / LOCAL_INDEX).write_bytes(local_index(written))
    assert found(tmp_path) == [(0, None), (1, None), (2, 0.5), (3, 0.5)]


@pytest.mark.parametrize(
    ("scores", "step"),
    [
        ([0.1, 0.3, 0.2], 2),
        ([0.3, None, 0.3, None], 3),
        ([-0.5, None], 1),
        ([None], None),
        ([], None),
    ],
)
def test_the_best_has_the_largest_score_and_of_equals_is_the_newest(
    scores: list[float | None], step: int | None
) -> None:
    checkpoints = [CommittedCheckpoint(f"c{s}", s, x) for s, x in enumerate(scores, start=1)]
    best = best_of(checkpoints)
    assert (best and best.step) == step


class RayTrainIndex:
    """Ray Train's own bookkeeping of checkpoints, without workers."""

    def __init__(self, folder: Path, best_by: str | None = None) -> None:
        training: dict[str, Any] = {"global_batch_size": 64, "checkpoints_kept": 2}
        if best_by is not None:
            training |= {"best_by": best_by, "evaluation_interval_steps": 5}
        config = load_config(write_run(folder), (f"training={json.dumps(training)}",))
        job: Any = SimpleNamespace(config=config, eval=SimpleNamespace(digest="digest"))
        self._folder = folder
        self._manager: Any = CheckpointManager(_checkpoints_to_keep(job), _storage(folder))
        self._manager._notify = lambda: None  # nobody waits for it here

    def report(self, name: str, metrics: dict[str, Any]) -> None:
        (self._folder / name).mkdir()
        checkpoint = Checkpoint.from_directory(self._folder / name)
        self._manager.register_checkpoint(
            SimpleNamespace(checkpoint=checkpoint, metrics=metrics, validation=False)
        )


def _storage(folder: Path) -> Any:
    filesystem = Checkpoint.from_directory(folder).filesystem
    return SimpleNamespace(
        storage_filesystem=filesystem,
        checkpoint_manager_snapshot_path=str(folder / RAY_INDEX),
        experiment_fs_path=str(folder),
        extract_checkpoint_dir_name_from_path=lambda path: Path(path).name,
        build_checkpoint_path_from_name=lambda name: str(folder / name),
    )


def test_ray_train_keeps_by_the_same_rule_and_its_index_is_read_oldest_first(
    tmp_path: Path,
) -> None:
    best_by = "auc:cart"
    measure = f"{best_by}@digest"
    scores = [0.6, 0.9, math.nan, 0.7, 0.9, 0.5, math.nan]
    kept = [[1], [1, 2], [1, 2, 3], [2, 4], [2, 5], [2, 5, 6], [2, 5, 7]]
    index = RayTrainIndex(tmp_path, best_by)
    for step, (score, steps) in enumerate(zip(scores, kept, strict=True), start=1):
        index.report(
            f"checkpoint_{step}", _for_ray_train({"step": step, "scores": {measure: score}})
        )
        if step == 4:  # as after a restart of the driver
            index = RayTrainIndex(tmp_path, best_by)
        there = checkpoints_of(Folder(str(tmp_path)))
        assert [c.step for c in there] == steps
        for checkpoint in there:
            assert checkpoint.name == f"checkpoint_{checkpoint.step}"
            known = scores[checkpoint.step - 1]
            assert checkpoint.score == (None if math.isnan(known) else known)
            assert (tmp_path / checkpoint.name).is_dir()


@pytest.mark.parametrize("metrics", [{"step": 3, "evaluation": {}}, {"step": 3, "scores": {}}])
def test_a_checkpoint_on_ray_without_a_score_has_none(
    tmp_path: Path, metrics: dict[str, Any]
) -> None:
    RayTrainIndex(tmp_path).report("checkpoint_3", metrics)
    assert checkpoints_of(Folder(str(tmp_path))) == [CommittedCheckpoint("checkpoint_3", 3)]


@pytest.mark.parametrize("name", [LOCAL_INDEX, RAY_INDEX])
@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"checkpoints": [7]}'])
def test_a_damaged_index_is_refused_by_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged"):
        checkpoints_of(Folder(str(tmp_path)))


def test_a_checkpoint_that_an_old_index_names_and_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCAL_INDEX).write_text(json.dumps({"checkpoints": ["local_checkpoint_000007"]}))
    with pytest.raises(UserError, match=r"local_checkpoint_000007 .* run\.json is missing"):
        checkpoints_of(Folder(str(tmp_path)))
