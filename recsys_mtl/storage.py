"""Small files under run.storage_path, on any file system or object store that fsspec knows."""

from contextlib import suppress
from pathlib import Path

import fsspec

from recsys_mtl.config import UserError


def storage_url(storage_path: str) -> str:
    """`storage_path` as every process understands it: local paths become absolute."""
    if "://" in storage_path:
        return storage_path.rstrip("/")
    return str(Path(storage_path).expanduser().resolve())


class Folder:
    """Files that are read and written whole."""

    def __init__(self, url: str) -> None:
        """The folder of this URL or absolute path, which need not be there yet.

        Raises:
            UserError: fsspec knows no such file system.
        """
        try:
            self.filesystem, self.path = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise UserError(f"run.storage_path {url!r}: {error}") from None

    def exists(self, name: str = "") -> bool:
        """Whether there is a file of this name, or the folder itself."""
        return bool(self.filesystem.exists(f"{self.path}/{name}" if name else self.path))

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        try:
            return bytes(self.filesystem.cat_file(f"{self.path}/{name}"))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """In one move where the file system can, so that no reader sees half a file."""
        self.filesystem.makedirs(self.path, exist_ok=True)
        temporary = f"{self.path}/.{name}.tmp"
        self.filesystem.pipe_file(temporary, content)
        self.filesystem.mv(temporary, f"{self.path}/{name}")

    def remove(self, name: str) -> None:
        """Have no such file, whether there was one or not."""
        with suppress(FileNotFoundError):
            self.filesystem.rm_file(f"{self.path}/{name}")
