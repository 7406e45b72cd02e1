"""Checkpoints without Ray: what is committed, what is read, what is removed."""

import math
import random
import secrets
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from recsys_mtl.config import UserError
from recsys_mtl.driver.committed import (
    LOCAL_INDEX,
    CommittedCheckpoint,
    checkpoints_of,
    local_index,
)
from recsys_mtl.driver.local_checkpoints import LocalCheckpoints, those_to_keep
from recsys_mtl.driver.storage import Folder


@pytest.fixture(params=["local", "memory"])
def run_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A run's folder, on a file system that can move files and on one of objects."""
    return (
        f"{tmp_path}/runs/demo" if request.param == "local" else f"memory://{secrets.token_hex(8)}"
    )


def writing(text: str) -> Callable[[Path], None]:
    """Writes a checkpoint of two files, one of them in a folder."""

    def write(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        (folder / "run.json").write_text(text)
        (folder / "tensors").mkdir()
        (folder / "tensors" / "weight").write_text(text.upper())

    return write


def commit(
    checkpoints: LocalCheckpoints, text: str, step: int = 1, scores: dict[str, float] | None = None
) -> int:
    return checkpoints.commit(writing(text), step=step, scores=scores or {})


def there(run_url: str) -> set[str]:
    filesystem, path = fsspec.core.url_to_fs(run_url)
    return {found.rpartition("/")[2] for found in filesystem.ls(path, detail=False)}


def newest(run_url: str) -> str | None:
    """What the newest checkpoint says, read in both ways, to a process that has just started."""
    checkpoint = LocalCheckpoints(run_url).newest()
    if checkpoint is None:
        return None
    text = checkpoint.read("run.json").decode()
    with checkpoint.as_folder() as folder:
        assert (folder / "run.json").read_text() == text
        assert (folder / "tensors" / "weight").read_text() == text.upper()
    return text


def test_before_the_first_commit_there_is_no_checkpoint(run_url: str) -> None:
    assert newest(run_url) is None


def test_the_newest_committed_checkpoint_is_read_back(run_url: str) -> None:
    checkpoints = LocalCheckpoints(run_url)
    for text in ("first", "second"):
        assert commit(checkpoints, text) == 2 * len(text)
        assert newest(run_url) == text


def test_the_newest_two_are_kept_and_no_name_comes_again(run_url: str) -> None:
    for text in ("first", "second", "third"):
        commit(LocalCheckpoints(run_url), text)
    assert there(run_url) == {LOCAL_INDEX, "local_checkpoint_000002", "local_checkpoint_000003"}
    assert newest(run_url) == "third"


def break_off(folder: Path) -> None:
    (folder / "run.json").write_text("half")
    raise InterruptedError


def test_a_write_that_breaks_off_changes_nothing(run_url: str) -> None:
    checkpoints = LocalCheckpoints(run_url)
    commit(checkpoints, "first")
    with pytest.raises(InterruptedError):
        checkpoints.commit(break_off, step=2, scores={})
    assert there(run_url) == {LOCAL_INDEX, "local_checkpoint_000001"}
    assert newest(run_url) == "first"


def test_what_a_killed_process_left_is_never_read_and_removed_at_the_next_start(
    run_url: str,
) -> None:
    commit(LocalCheckpoints(run_url), "first")
    filesystem, path = fsspec.core.url_to_fs(run_url)
    for left in ("local_checkpoint_000002", ".local_checkpoint_000002.key.tmp"):
        filesystem.makedirs(f"{path}/{left}", exist_ok=True)
        filesystem.pipe_file(f"{path}/{left}/run.json", b"uncommitted")
    filesystem.pipe_file(f"{path}/result.json", b"{}")
    assert newest(run_url) == "first"
    assert there(run_url) == {LOCAL_INDEX, "local_checkpoint_000001", "result.json"}
    commit(LocalCheckpoints(run_url), "second")
    assert newest(run_url) == "second"


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"checkpoints": 3}', b'{"checkpoints": [{}]}', b"\xff"]
)
def test_a_damaged_index_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCAL_INDEX).write_bytes(content)
    with pytest.raises(UserError, match=rf"{LOCAL_INDEX} is damaged .*--fresh"):
        LocalCheckpoints(str(tmp_path))


def test_a_file_that_a_committed_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    index = local_index([CommittedCheckpoint("local_checkpoint_000007", 7)])
    (tmp_path / LOCAL_INDEX).write_bytes(index)
    checkpoint = LocalCheckpoints(str(tmp_path)).newest()
    assert checkpoint is not None
    with pytest.raises(UserError, match=r"local_checkpoint_000007 .* run\.json is missing"):
        checkpoint.read("run.json")


def scored(scores: list[float | None], measure: str = "mean_auc@a") -> list[CommittedCheckpoint]:
    """One checkpoint per score, of the steps 1, 2, ..."""
    return [CommittedCheckpoint(f"c{s}", s, x, measure) for s, x in enumerate(scores, start=1)]


@pytest.mark.parametrize(
    ("scores", "number", "steps"),
    [
        ([None, None, None], 2, [2, 3]),
        ([0.9, 0.7, 0.8], 1, [1, 3]),
        ([0.9, 0.7, 0.8], 2, [1, 3]),
        ([0.9, 0.8, 0.7], 2, [1, 2, 3]),
        ([0.7, 0.8, 0.9], 1, [3]),
        ([0.8, 0.8, 0.7], 1, [2, 3]),
        ([0.9, None, None], 2, [1, 3]),
        ([None, 0.1, None, None], 3, [2, 3, 4]),
        ([0.9], 3, [1]),
    ],
)
def test_the_best_are_kept_and_the_newest_besides(
    scores: list[float | None], number: int, steps: list[int]
) -> None:
    assert [c.step for c in those_to_keep(scored(scores), number)] == steps


def test_scores_of_another_measure_keep_nothing_alive() -> None:
    checkpoints = [*scored([0.9, 0.8], "mean_auc@a"), *scored([-0.7, None], "log_loss:wish@a")]
    kept = [(c.scored_by, c.step) for c in those_to_keep(checkpoints, 1)]
    assert kept == [("log_loss:wish@a", 1), ("log_loss:wish@a", 2)]


def test_the_best_checkpoint_outlives_many_others_and_restarts(run_url: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    draw, best = random.Random(seed), (-math.inf, 0)
    for step in range(1, 13):
        score = draw.choice([math.nan, draw.random()])
        checkpoints = LocalCheckpoints(run_url, kept=1)
        commit(checkpoints, str(step), step, {"mean_auc@a": score})
        if score > best[0]:
            best = (score, step)
        found = checkpoints_of(Folder(run_url))
        assert found[-1].step == step
        assert {c.name for c in found} == there(run_url) - {LOCAL_INDEX}
        known = {c.step: c.score for c in found if c.score is not None}
        if best[1]:
            assert known[best[1]] == best[0] == max(known.values())
            assert len(found) <= 2
