"""Small files under run.storage_path, on any file system or object store that fsspec knows."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from recsys_mtl.config import UserError

# Whose files appear whole; elsewhere a file is written beside its place and moved there.
_OBJECT_STORES = {"abfs", "abfss", "az", "gcs", "gs", "memory", "s3", "s3a"}


def storage_url(storage_path: str) -> str:
    """`storage_path` as every process understands it: local paths become absolute."""
    if "://" in storage_path:
        return storage_path.rstrip("/")
    return str(Path(storage_path).expanduser().resolve())


class Folder:
    """Files that are read and written whole.

    Raises:
        UserError: by every method, where the storage cannot be used.
    """

    def __init__(self, url: str) -> None:
        """The folder of this URL or absolute path, which need not be there yet."""
        self.url = url
        with self._named():
            self._filesystem, self._path = fsspec.core.url_to_fs(url)
        protocol = self._filesystem.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._whole = bool(_OBJECT_STORES & protocols)
        self._key = uuid.uuid4().hex

    def exists(self, name: str = "") -> bool:
        """Whether there is a file of this name, or the folder itself."""
        with self._named():
            return bool(self._filesystem.exists(f"{self._path}/{name}" if name else self._path))

    def is_empty(self) -> bool:
        """Whether the folder, which is there, has nothing in it."""
        with self._named():
            return not self._filesystem.ls(self._path)

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        with self._named():
            try:
                return bytes(self._filesystem.cat_file(f"{self._path}/{name}"))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """At once, so that no reader sees half a file."""
        with self._named():
            if self._whole:
                self._filesystem.pipe_file(f"{self._path}/{name}", content)
                return
            self._filesystem.makedirs(self._path, exist_ok=True)
            temporary = f"{self._path}/.{name}.{self._key}.tmp"
            self._filesystem.pipe_file(temporary, content)
            self._filesystem.mv(temporary, f"{self._path}/{name}")

    def remove(self, name: str = "") -> None:
        """Have no such file, or the folder with all that is in it; there may be none."""
        path = f"{self._path}/{name}" if name else self._path
        with self._named():
            try:
                self._filesystem.rm(path, recursive=not name)
            except FileNotFoundError:
                return

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors by the setting that a user can mend: each storage has its own kinds of them."""
        try:
            yield
        except Exception as error:
            raise UserError(
                f"run.storage_path: {self.url} cannot be used ({type(error).__name__}: {error})"
            ) from error
