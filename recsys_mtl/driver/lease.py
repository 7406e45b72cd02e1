"""One driver per run: whoever trains it holds a lease, a small file beside the run's folder.

Two drivers of one run would each commit checkpoints over the other's, and count its rows twice.
That comes about without anybody's mistake: a batch queue starts a job again while the pods of its
last start are still ending. File systems and object stores share no lock, so the file says who
holds it and since when, and is written anew every few seconds. A holder that finds another's name
in it leaves. Clocks of nodes may differ by a few seconds, not by a minute.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from recsys_mtl.config import UserError
from recsys_mtl.driver.events import log_event
from recsys_mtl.driver.interruption import interrupter
from recsys_mtl.driver.repeating import repeating
from recsys_mtl.driver.storage import Folder

_RENEWED_SECONDS = 5.0
_VALID_SECONDS = 60.0
_WAIT_SECONDS = 200.0  # Kubernetes gives the pods of a run 120 s to end, and then it is still valid
_LOOK_SECONDS = 1.0
_SETTLE_SECONDS = 0.5
_INTERRUPTED_SECONDS = 60.0  # what ends orderly has time for it


class LeaseError(Exception):
    """Another driver trains the run."""


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
    """The right to train one run, or to write what only one driver may."""

    def __init__(
        self,
        url: str,
        *,
        what: str = "run",
        done: str = "trained",
        setting: str = "run.storage_path",
    ) -> None:
        """Name the run by its folder; a lost lease interrupts the thread that calls this.

        Args:
            what: lies in the folder, for messages.
            done: to it, by whoever holds the lease.
            setting: what gives the folder, for messages.
        """
        storage, _, name = url.rpartition("/")
        self._named, self._done = f"{what} {name!r}", done
        self._folder, self._file = Folder(storage, setting), f".{name}.lease"
        self._key = uuid.uuid4().hex
        self._written_at = self._interrupted_at = -float("inf")
        self._lost = ""
        self._interrupt = interrupter()
        self._told_of_trouble = False

    @contextmanager
    def held(self, pause: Callable[[], None]) -> Iterator[None]:
        """Hold it between `with` and its end, waiting for another driver to end where one trains.

        Args:
            pause: called while waiting; what it raises ends that.

        Raises:
            UserError: the storage cannot be used.
            LeaseError: another driver goes on training, or has taken over because this one was
                thought dead; the thread that holds it is then interrupted, as by Ctrl-C.
        """
        try:
            self._acquire(pause)
            with repeating(self._renew, seconds=_RENEWED_SECONDS, name="lease"):
                yield
        except BaseException:
            if not self._lost:
                raise
            raise LeaseError(self._lost) from None
        finally:
            self._release()

    def _acquire(self, pause: Callable[[], None]) -> None:
        until, told = time.monotonic() + _WAIT_SECONDS, False
        found, since = self._read(), time.monotonic()
        while not self._is_own(found):
            holder = _holder(found)
            dead = holder is not None and not holder.is_alive
            if found is None or dead or time.monotonic() - since > _VALID_SECONDS:
                self._write()
                time.sleep(_SETTLE_SECONDS)  # another may have found it free as well
            else:
                who = f"{self._named} is being {self._done} by {_named(holder)}"
                if time.monotonic() > until:
                    raise LeaseError(
                        f"{who}, which has not ended in {_WAIT_SECONDS:g} s; stop it, or choose "
                        "another name"
                    )
                if not told:
                    told = True
                    log_event("waiting", f"{who}; waiting up to {_WAIT_SECONDS:g} s for its end")
                pause()
                time.sleep(_LOOK_SECONDS)
            before = found
            with suppress(UserError):  # the storage answered before, and will again
                found = self._read()
            if found != before:
                since = time.monotonic()

    def _renew(self) -> None:
        try:
            found = self._read()
            late = time.monotonic() - self._written_at > _VALID_SECONDS
            if not self._lost and (self._is_own(found) or (found is None and not late)):
                self._write()
                self._told_of_trouble = False
                return
        except UserError as error:
            if not self._told_of_trouble:
                self._told_of_trouble = True
                log_event("lease", f"the lease of {self._named} cannot be renewed now: {error}")
            return
        self._lost = self._lost or (
            f"{self._named} is no longer this driver's but {_named(_holder(found))}'s, and is "
            "left to it"
        )
        if time.monotonic() - self._interrupted_at > _INTERRUPTED_SECONDS:
            self._interrupted_at = time.monotonic()
            self._interrupt()

    def _release(self) -> None:
        with suppress(UserError):
            if self._is_own(self._read()):
                self._folder.remove(self._file)

    def _is_own(self, found: bytes | None) -> bool:
        holder = _holder(found)
        return holder is not None and holder.key == self._key

    def _read(self) -> bytes | None:
        return self._folder.read(self._file)

    def _write(self) -> None:
        holder = Holder(self._key, socket.gethostname(), os.getpid(), _processes(), time.time())
        self._folder.write(self._file, json.dumps(asdict(holder)).encode())
        self._written_at = time.monotonic()


def _holder(found: bytes | None) -> Holder | None:
    """Who the file names; None where there is none, or nobody that this version can read."""
    try:
        said = json.loads(found or b"{}")
        holder = Holder(**{field.name: said[field.name] for field in fields(Holder)})
    except (TypeError, KeyError, ValueError):
        return None
    return holder if isinstance(holder.renewed_at, int | float) else None


def _named(holder: Holder | None) -> str:
    return "another driver" if holder is None else f"process {holder.pid} on {holder.host}"


def _processes() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return str(uuid.uuid4())  # not Linux: nothing is known of other processes
