"""One driver a run: whoever trains it holds a lease, a small file beside the run's folder.

Two drivers of one run would each commit checkpoints over the other's, and count its rows twice.
That comes about without anybody's mistake: a batch queue starts a job again while the pods of its
last start are still ending. File systems and object stores share no lock, so the file says who
holds it and until when, and is written anew every few seconds. A holder that finds another's name
in it leaves. Clocks of nodes may differ by a few seconds, not by a minute.
"""

import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from recsys_mtl.config import UserError
from recsys_mtl.events import tell
from recsys_mtl.repeating import repeating
from recsys_mtl.storage import Folder

_RENEWED_SECONDS = 5.0
_VALID_SECONDS = 60.0
_WAIT_SECONDS = 150.0  # Kubernetes gives the pods of a run 120 s to end
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Holder:
    """What the file says."""

    key: str
    """No other driver has it."""
    host: str
    pid: int
    processes: str
    """Names the set of processes, one a machine or container, among which `pid` is one."""
    renewed_at: float
    """Unix seconds."""

    @property
    def is_alive(self) -> bool:
        """Whether it may still train."""
        if time.time() - self.renewed_at > _VALID_SECONDS:
            return False
        return self.processes != _processes() or Path(f"/proc/{self.pid}").exists()


class Lease:
    """The right to train one run."""

    def __init__(self, run_url: str) -> None:
        """Of the run whose folder this is."""
        storage, _, self._run = run_url.rpartition("/")
        self._folder, self._file = Folder(storage), f".{self._run}.lease"
        self._url = f"{storage}/{self._file}"
        self._key = uuid.uuid4().hex
        self._lost_to: Holder | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it between `with` and its end, waiting for another driver to end where one trains.

        Raises:
            UserError: another driver goes on training, or has taken over meanwhile, because this
                one was thought dead. For the latter the main thread is interrupted, as by Ctrl-C.
        """
        self._acquire()
        try:
            with repeating(self._renew, seconds=_RENEWED_SECONDS, name="lease"):
                yield
        except KeyboardInterrupt:
            if self._lost_to is None:
                raise
            raise UserError(
                f"run {self._run!r} is now trained by {_named(self._lost_to)}: this driver had "
                f"not renewed {self._url} for {_VALID_SECONDS:g} s, and leaves the run to it"
            ) from None
        finally:
            self._release()

    def _acquire(self) -> None:
        until, told = time.monotonic() + _WAIT_SECONDS, False
        while (holder := self._holder()) is not None and holder.is_alive:
            who = f"run {self._run!r} is being trained by {_named(holder)}"
            if time.monotonic() > until:
                raise UserError(
                    f"{who}, which has not ended in {_WAIT_SECONDS:g} s; stop it, or choose "
                    "another run.name"
                )
            if not told:
                told = True
                tell("waiting", f"{who}; waiting up to {_WAIT_SECONDS:g} s for its end")
            time.sleep(_LOOK_SECONDS)
        self._write()

    def _renew(self) -> None:
        holder = self._holder()
        if holder is None or holder.key == self._key:
            self._write()
        else:
            self._lost_to = holder
            os.kill(os.getpid(), signal.SIGINT)

    def _release(self) -> None:
        with suppress(OSError):
            holder = self._holder()
            if holder is not None and holder.key == self._key:
                self._folder.remove(self._file)

    def _holder(self) -> Holder | None:
        text = self._folder.read(self._file)
        try:
            return None if text is None else Holder(**json.loads(text))
        except (TypeError, ValueError):
            return None  # another version's

    def _write(self) -> None:
        holder = Holder(self._key, socket.gethostname(), os.getpid(), _processes(), time.time())
        self._folder.write(self._file, json.dumps(asdict(holder)).encode())


def _named(holder: Holder) -> str:
    return f"process {holder.pid} on {holder.host}"


def _processes() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return str(uuid.uuid4())  # not Linux: nothing is known of other processes
