"""A storage that fails for a while is no fault of the data."""

import errno
from pathlib import Path
from typing import Any

import pytest

from recsys_mtl.data import row_groups
from recsys_mtl.data.schema import DataError
from tests.unit.data.click_logs import FILES, Log, global_batches, write_log


class FailingFirst:
    """A file system whose `open` raises the given errors before it works."""

    def __init__(self, filesystem: Any, *errors: OSError) -> None:
        self.filesystem, self.errors, self.calls = filesystem, list(errors), 0

    def open(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.filesystem.open(*arguments)


def failing(monkeypatch: pytest.MonkeyPatch, *errors: OSError) -> list[FailingFirst]:
    """Make every reader's storage raise `errors` first; returns the storages made."""
    made: list[FailingFirst] = []
    url_to_fs = row_groups.fsspec.core.url_to_fs

    def wrapped(url: str) -> tuple[FailingFirst, str]:
        filesystem, path = url_to_fs(url)
        made.append(FailingFirst(filesystem, *errors))
        return made[-1], path

    monkeypatch.setattr(row_groups.fsspec.core, "url_to_fs", wrapped)
    monkeypatch.setattr(row_groups, "_PAUSES_SECONDS", (0.0, 0.0))
    return made


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_passing_fault_is_waited_out_and_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_error: str
) -> None:
    log = Log(write_log(tmp_path, FILES), on_error=on_error)
    undisturbed = global_batches(log, 1, 3)
    reset = ConnectionResetError(errno.ECONNRESET, "reset")
    failing(monkeypatch, reset, TimeoutError(errno.ETIMEDOUT, "slow"))
    assert global_batches(log, 1, 3) == undisturbed


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_lasting_fault_restarts_the_run_and_is_not_blamed_on_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_error: str
) -> None:
    log = Log(write_log(tmp_path, FILES), on_error=on_error)
    failing(monkeypatch, *[ConnectionResetError(errno.ECONNRESET, "reset") for _ in range(9)])
    with pytest.raises(ConnectionResetError):
        global_batches(log, 1, 3)


def test_a_file_that_is_gone_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(write_log(tmp_path, FILES))
    made = failing(monkeypatch, FileNotFoundError(errno.ENOENT, "gone"))
    with pytest.raises(DataError, match="gone"):
        global_batches(log, 1, 3)
    assert made[0].calls == 1
