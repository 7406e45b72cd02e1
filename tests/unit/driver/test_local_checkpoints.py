"""Checkpoints without Ray: what is committed, what is read, what is removed."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from recsys_mtl.config import UserError
from recsys_mtl.driver.local_checkpoints import INDEX, LocalCheckpoints


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
        assert checkpoints.commit(writing(text)) == 2 * len(text)
        assert newest(run_url) == text


def test_the_newest_two_are_kept_and_no_name_comes_again(run_url: str) -> None:
    for text in ("first", "second", "third"):
        LocalCheckpoints(run_url).commit(writing(text))
    assert there(run_url) == {INDEX, "local_checkpoint_000002", "local_checkpoint_000003"}
    assert newest(run_url) == "third"


def break_off(folder: Path) -> None:
    (folder / "run.json").write_text("half")
    raise InterruptedError


def test_a_write_that_breaks_off_changes_nothing(run_url: str) -> None:
    checkpoints = LocalCheckpoints(run_url)
    checkpoints.commit(writing("first"))
    with pytest.raises(InterruptedError):
        checkpoints.commit(break_off)
    assert there(run_url) == {INDEX, "local_checkpoint_000001"}
    assert newest(run_url) == "first"


def test_what_a_killed_process_left_is_never_read_and_removed_at_the_next_start(
    run_url: str,
) -> None:
    LocalCheckpoints(run_url).commit(writing("first"))
    filesystem, path = fsspec.core.url_to_fs(run_url)
    for left in ("local_checkpoint_000002", ".local_checkpoint_000002.key.tmp"):
        filesystem.makedirs(f"{path}/{left}", exist_ok=True)
        filesystem.pipe_file(f"{path}/{left}/run.json", b"uncommitted")
    filesystem.pipe_file(f"{path}/result.json", b"{}")
    assert newest(run_url) == "first"
    assert there(run_url) == {INDEX, "local_checkpoint_000001", "result.json"}
    LocalCheckpoints(run_url).commit(writing("second"))
    assert newest(run_url) == "second"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"checkpoints": 3}', b"\xff"])
def test_a_damaged_index_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(UserError, match=rf"{INDEX} is damaged .*--fresh"):
        LocalCheckpoints(str(tmp_path))


def test_a_file_that_a_committed_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"checkpoints": ["local_checkpoint_000007"]}))
    checkpoint = LocalCheckpoints(str(tmp_path)).newest()
    assert checkpoint is not None
    with pytest.raises(UserError, match=r"local_checkpoint_000007 .* run\.json is missing"):
        checkpoint.read("run.json")
