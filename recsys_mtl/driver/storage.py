"""Files and folders on any file system or object store of fsspec's."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from recsys_mtl.config import RunConfig, UserError

# Whose files appear whole; elsewhere a file is written beside its place and moved there.
_OBJECT_STORES = {"abfs", "abfss", "az", "gcs", "gs", "memory", "s3", "s3a"}

TEMPORARY = ".recsys_mtl_"
"""What the names of unfinished files and folders of `Folder.new_file` begin with."""


def storage_url(storage_path: str) -> str:
    """`storage_path` as every process understands it: local paths become absolute."""
    if "://" in storage_path:
        return storage_path.rstrip("/")
    return str(Path(storage_path).expanduser().resolve())


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same run, with local paths that mean the same wherever they are read; URLs stay."""
    data, metrics, warm = config.data, config.metrics, config.run.warm_start
    if warm is not None:
        warm = warm.model_copy(update={"source": storage_url(warm.source)})
    return config.model_copy(
        update={
            "run": config.run.model_copy(
                update={
                    "storage_path": storage_url(config.run.storage_path),
                    "warm_start": warm,
                }
            ),
            "data": data.model_copy(
                update={"train": _absolute(data.train), "eval": _absolute(data.eval)}
            ),
            "metrics": metrics.model_copy(
                update={
                    name: None if path is None else _absolute(path)
                    for name in ("bearer_token_file", "discovery_folder")
                    for path in [getattr(metrics, name)]
                }
            ),
        }
    )


def _absolute(path_or_url: str) -> str:
    """A path as it is seen from anywhere; a link stays one, as it may point elsewhere later."""
    if "://" in path_or_url:
        return path_or_url
    path = Path(path_or_url).expanduser()
    return str(path.resolve() if ".." in path.parts else path.absolute())


class Folder:
    """Files that are read and written whole.

    Raises:
        UserError: by every method, where the storage cannot be used.
    """

    def __init__(self, url: str, named: str = "run.storage_path") -> None:
        """The folder of this URL or absolute path, which need not be there yet.

        Args:
            named: the setting or the argument that gave it, for messages.
        """
        self.url, self._setting = url, named
        with self._named():
            self._filesystem, self._path = fsspec.core.url_to_fs(url)
        protocol = self._filesystem.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._whole = bool(_OBJECT_STORES & protocols)
        self._key = uuid.uuid4().hex

    @property
    def path(self) -> str:
        """Its path on its file system, as listings there have it."""
        return str(self._path).rstrip("/")

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
        self._remove(f"{self._path}/{name}" if name else self._path, recursive=not name)

    def names(self) -> list[str]:
        """List the files and folders in it by name; none where it is not there."""
        with self._named():
            try:
                found = self._filesystem.ls(self._path, detail=False)
            except FileNotFoundError:
                return []
            return [path.rstrip("/").rpartition("/")[2] for path in found]

    def files(self) -> list[str]:
        """List the files in it and below by their path from here; hidden ones are left out."""
        with self._named():
            found = self._filesystem.find(self._path)
        paths = [path.removeprefix(f"{self._path.rstrip('/')}/") for path in found]
        return [p for p in paths if not any(part.startswith(".") for part in p.split("/"))]

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """Give an empty folder of this machine, which becomes the folder `name` after the context.

        On a local path it appears whole, by a rename; elsewhere it is uploaded file after file.
        After an error nothing appears.
        """
        here = self._here
        if here is None:
            with tempfile.TemporaryDirectory(prefix="recsys_mtl_") as made:
                yield Path(made)
                self._upload(Path(made), name)
            return
        with self._named():
            temporary = here / f".{name}.{self._key}.tmp"
            temporary.mkdir(parents=True)
        try:
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        with self._named():
            temporary.rename(here / name)

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """Give a path of this machine, whose file is `name` after the context.

        It appears whole. After an error nothing appears.
        """
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=self._beside()) as made:
            path = Path(made) / "file"
            yield path
            with self._named():
                if self._here is not None:
                    target = self._here / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.rename(target)
                elif self._whole:
                    self._filesystem.put_file(str(path), f"{self._path}/{name}")
                else:
                    folder, _, last = f"{self._path}/{name}".rpartition("/")
                    self._filesystem.makedirs(folder, exist_ok=True)
                    temporary = f"{folder}/.{last}.{self._key}.tmp"
                    self._filesystem.put_file(str(path), temporary)
                    self._filesystem.mv(temporary, f"{folder}/{last}")

    def _beside(self) -> Path | None:
        """A place from which a rename is possible; None for the machine's own temporary folder."""
        if self._here is None:
            return None
        with self._named():
            self._here.mkdir(parents=True, exist_ok=True)
        return self._here

    @contextmanager
    def on_this_machine(self, name: str) -> Iterator[Path]:
        """Give the path of the folder `name`, or of a copy here, while the context lasts."""
        here = self._here
        if here is not None:
            yield here / name
            return
        with tempfile.TemporaryDirectory(prefix="recsys_mtl_") as made:
            self._download(name, Path(made))
            yield Path(made)

    def remove_folder(self, name: str) -> None:
        """Remove the folder `name` with all that is in it; there may be none."""
        self._remove(f"{self._path}/{name}", recursive=True)

    @property
    def _here(self) -> Path | None:
        """Its path on this machine; None where the storage is elsewhere."""
        return Path(self._path) if isinstance(self._filesystem, LocalFileSystem) else None

    def _upload(self, source: Path, name: str) -> None:
        files = [file for file in source.rglob("*") if file.is_file()]
        with self._named():
            for file in files:
                target = f"{self._path}/{name}/{file.relative_to(source).as_posix()}"
                if not self._whole:
                    self._filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._filesystem.put_file(str(file), target)

    def _download(self, name: str, target: Path) -> None:
        with self._named():
            source = f"{self._path}/{name}"
            for path in self._filesystem.find(source):
                file = target / path.removeprefix(f"{source}/")
                file.parent.mkdir(parents=True, exist_ok=True)
                self._filesystem.get_file(path, str(file))

    def _remove(self, path: str, *, recursive: bool) -> None:
        with self._named():
            try:
                self._filesystem.rm(path, recursive=recursive)
            except FileNotFoundError:
                return

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors by the setting that a user can mend: each storage has its own kinds of them."""
        try:
            yield
        except Exception as error:
            raise UserError(
                f"{self._setting}: {self.url} cannot be used ({type(error).__name__}: {error})"
            ) from error
