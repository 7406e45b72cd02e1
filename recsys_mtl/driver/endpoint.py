"""The driver's side of the run's exporter: start it, let it be found, follow it, end it."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.driver.events import log_event
from recsys_mtl.exporter.snapshot import RunView, State, Status

_SCRAPES_AFTER_THE_END = 2
_PAUSE_SECONDS = 0.5
_NOWHERE = "[]"


class ExporterLostError(Exception):
    """The exporter does not answer: its process is starting, was lost, or is too slow."""


class Exporter(Protocol):
    """A `RunExporter` of this process or of another one.

    Every method raises ExporterLostError where the other process does not answer.
    """

    def serve(
        self,
        bind_address: str,
        ports: Sequence[int],
        token: str | None,
        earlier: Status | None = None,
    ) -> int:
        """Answer scrapes, and return the port.

        Raises:
            OSError: no port is free.
        """

    def status(self) -> Status:
        """Return what the driver follows and keeps."""

    def show(self, view: RunView) -> None:
        """Have pages show this view, which the driver has."""

    def ask_to_stop(self) -> None:
        """Have the workers take a checkpoint and leave."""

    def end(self, state: State) -> None:
        """Show that the run has ended, and how."""


class Endpoint:
    """The exporter of one run. Once it was started, training goes on without it if it must."""

    def __init__(self, config: RunConfig) -> None:
        """See to what it needs, before anything is started.

        Raises:
            UserError: the token's file or the discovery folder cannot be used.
        """
        self._metrics = config.metrics
        self._token = _token(config)
        self._discovery = _discovery_file(config)
        self._announced: tuple[int, str] | None = None  # the port, and what Prometheus was told
        self._serves = True  # as far as there is a port
        self._last: Status | None = None
        self._lock = threading.Lock()  # an older status must not be shown after a newer one
        self._exporter: Exporter | None = None
        self._address = ""

    @property
    def has_begun(self) -> bool:
        """Whether an attempt to train had begun when the exporter was last asked."""
        return self._last is not None and bool(self._last.view.attempts)

    def start(self, exporter: Exporter, address: str) -> None:
        """Have an exporter serve its page, and say where.

        Args:
            address: the host name or IP address at which scrapers reach this machine.
        """
        self._exporter, self._address = exporter, address
        self._serve(exporter)
        self.status()

    def status(self) -> Status | None:
        """How training stands, which pages show from then on; None without an answer."""
        with self._lock, suppress(ExporterLostError):
            exporter = self._started()
            status = exporter.status()
            if status.port is None and self._serves:
                # The exporter was lost, and Ray has made another. Until that is served, it does
                # not know what it has to go on from.
                self._serve(exporter)
                return None
            if status.port is not None:
                self._announce(status.port)
            self._last = status
            exporter.show(status.view)
            return status
        return None

    def ask_to_stop(self) -> None:
        """Have the workers take a checkpoint and leave; does not wait."""
        self._started().ask_to_stop()

    def end(self, state: State, *, why: str = "", seconds_left: Callable[[], float]) -> None:
        """Show how the run has ended, until Prometheus has seen it.

        Args:
            why: told where that takes time, as the error itself comes after it.
            seconds_left: asked again and again, for the time that this may take.
        """
        try:
            self._started().end(state)
        except ExporterLostError:
            return  # there is nothing left to show it
        self._linger(why.strip().partition("\n")[0], seconds_left)

    def close(self) -> None:
        """Be found no longer, unless another driver has written where it is found."""
        if self._discovery is None:
            return
        own = _NOWHERE if self._announced is None else self._announced[1]
        with suppress(OSError):
            if self._discovery.read_text() == own:
                self._discovery.unlink()

    def _linger(self, why: str, seconds_left: Callable[[], float]) -> None:
        """Stay up until two more scrapes, at most metrics.linger_seconds.

        Where nobody has scraped the run, nobody is waited for, unless Prometheus was told of it.
        """
        self.status()  # has the end shown, before the scrapes that the next one knows of
        status, longest = self.status(), self._metrics.linger_seconds
        if status is None or status.port is None or not longest:
            return
        if not status.scrapes and self._discovery is None:
            return
        sentence = f"the metrics stay until scraped twice more, at most {longest} s"
        log_event("lingering", f"{why}; {sentence}" if why else sentence)
        enough = status.scrapes + _SCRAPES_AFTER_THE_END
        until = time.monotonic() + longest
        while time.monotonic() < until and seconds_left() > 0:
            status = self.status()
            if status is not None and status.scrapes >= enough:
                return
            time.sleep(_PAUSE_SECONDS)

    def _started(self) -> Exporter:
        assert self._exporter is not None, "start it first"
        return self._exporter

    def _serve(self, exporter: Exporter) -> None:
        """Have the page served on the port that Prometheus knows, else where a port is free."""
        metrics = self._metrics
        ports = metrics.ports if self._announced is None else [self._announced[0], *metrics.ports]
        try:
            port = exporter.serve(metrics.bind_address, ports, self._token, self._last)
            self._announce(port)
        except OSError as error:
            self._serves = False
            log_event(
                "no_metrics",
                f"no metrics endpoint on {metrics.bind_address}:{metrics.port} ({error}); "
                "training goes on without it. Set metrics.port to a free port, a range, or 0 for "
                "any",
            )
        except ExporterLostError:
            return  # it still starts, or was lost: the next `status` tells

    def _announce(self, port: int) -> None:
        """Say where the page is, where that is new."""
        if self._announced is not None and self._announced[0] == port:
            return
        address = self._metrics.bind_address
        host = self._address if address in ("0.0.0.0", "::") else address
        host = f"[{host}]" if ":" in host else host
        url = f"http://{host}:{port}/metrics"
        log_event("metrics", f"metrics: {url}", url=url)
        self._announced = port, json.dumps([{"targets": [f"{host}:{port}"], "labels": {}}])
        if self._discovery is None:
            return
        try:
            _write(self._discovery, self._announced[1])
        except OSError as error:
            log_event("no_discovery", f"Prometheus is not told of the run: {error}")


def _token(config: RunConfig) -> str | None:
    """What a scraper must send; None where nothing is asked for."""
    file = config.metrics.bearer_token_file
    if file is None:
        return None
    try:
        token = Path(file).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text"
        raise UserError(
            f"metrics.bearer_token_file {file!r} cannot be read ({why}); name a file "
            "that holds the token, on the machine where recsys-mtl runs"
        ) from None
    if not token or not token.isascii() or any(c.isspace() for c in token):
        raise UserError(
            f"metrics.bearer_token_file {file!r} must hold one token of ASCII letters, digits "
            "and signs, without spaces"
        )
    return token


def _discovery_file(config: RunConfig) -> Path | None:
    """Where Prometheus is told of this run; tried now, so that a typo does not cost the run."""
    folder = config.metrics.discovery_folder
    if folder is None:
        return None
    file = Path(folder).expanduser() / f"{config.run.name}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(file, _NOWHERE)
    except OSError as error:
        raise UserError(
            f"metrics.discovery_folder {folder!r} cannot be written to ({error.strerror}); name a "
            "folder that Prometheus reads, on the machine where recsys-mtl runs"
        ) from None
    return file


def _write(file: Path, text: str) -> None:
    """In one move: Prometheus reads whenever the file changes."""
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(text)
    temporary.replace(file)
