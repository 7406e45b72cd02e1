"""The driver's side of the run's exporter: start it, let it be found, follow it, end it."""

import json
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.events import tell
from recsys_mtl.metrics.exporter import RunExporter
from recsys_mtl.metrics.snapshot import RunFacts, State, Status

_START_SECONDS = 120
_ANSWER_SECONDS = 5
_SCRAPES_AFTER_THE_END = 2
_NOTHING = Status(port=None, snapshot=None, sharding=None, attempts=0, scrapes=0)


class Endpoint:
    """The exporter of one run. Training goes on without it if it must."""

    actor: Any
    """Its handle, once started."""

    def __init__(self, config: RunConfig) -> None:
        """See to what it needs, before anything is started.

        Raises:
            UserError: the token's file or the discovery folder cannot be used.
        """
        self._metrics = config.metrics
        self._token = _token(config)
        self._discovery = _discovery_file(config)
        self._ports = self._metrics.ports
        self._last = _NOTHING

    def start(self, facts: RunFacts) -> None:
        """Make the actor on this node, have it serve its page, and say where."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        # Ray starts it again when its process dies; its page comes back with the next `status`.
        self.actor = (
            ray.remote(RunExporter)
            .options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)
            .remote(facts)
        )
        address, spelled = self._metrics.bind_address, self._metrics.port
        try:
            port = self._serve(_START_SECONDS)
        except RayError as error:
            cause = getattr(error, "cause", error)
            tell(
                "no_metrics",
                f"no metrics endpoint on {address}:{spelled} ({cause}); training goes on without "
                "it. Set metrics.port to a free port, a range, or 0 for any",
            )
            return
        host = ray.util.get_node_ip_address() if address in ("0.0.0.0", "::") else address
        host = f"[{host}]" if ":" in host else host
        self._ports = [port]  # where Prometheus has been told to look
        tell(
            "metrics", f"metrics: http://{host}:{port}/metrics", url=f"http://{host}:{port}/metrics"
        )
        if self._discovery is not None:
            target = [{"targets": [f"{host}:{port}"], "labels": {}}]
            _write(self._discovery, json.dumps(target))

    def status(self) -> Status | None:
        """How training stands; None while the exporter does not answer."""
        try:
            status: Status = ray.get(self.actor.status.remote(), timeout=_ANSWER_SECONDS)
            if status.port is None and self._last.port is not None:
                self._serve(_ANSWER_SECONDS)  # its process was lost, and Ray has made another
        except RayError:
            return None
        self._last = status if status.port is not None else self._last
        return status

    def ask_to_stop(self) -> None:
        """Have the workers take a checkpoint and leave; does not wait."""
        self.actor.ask_to_stop.remote()

    def end(self, state: State) -> None:
        """Show how the run has ended, until Prometheus has seen it."""
        try:
            ray.get(self.actor.end.remote(state), timeout=_ANSWER_SECONDS)
            self._linger()
        except RayError:
            pass  # there is nothing left to show it

    def close(self) -> None:
        """Be found no longer."""
        if self._discovery is not None:
            self._discovery.unlink(missing_ok=True)

    def _linger(self) -> None:
        """Stay up until two more scrapes, at most metrics.linger_seconds.

        Where nobody has scraped the run, nobody is waited for, unless Prometheus was told of it.
        """
        status = self.status()
        if status is None or status.port is None:
            return
        if not status.scrapes and self._discovery is None:
            return
        enough, seconds = status.scrapes + _SCRAPES_AFTER_THE_END, self._metrics.linger_seconds
        if seconds:
            tell("lingering", f"the metrics stay until scraped twice more, at most {seconds} s")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            status = self.status()
            if status is not None and status.scrapes >= enough:
                return
            time.sleep(0.5)

    def _serve(self, timeout_seconds: float) -> int:
        call = self.actor.serve.remote(
            self._metrics.bind_address, self._ports, self._token, self._last.attempts
        )
        return int(ray.get(call, timeout=timeout_seconds))


def _token(config: RunConfig) -> str | None:
    """What a scraper must send; None where nothing is asked for."""
    file = config.metrics.bearer_token_file
    if file is None:
        return None
    try:
        token = Path(file).expanduser().read_text().strip()
    except OSError as error:
        raise UserError(
            f"metrics.bearer_token_file {file!r} cannot be read ({error.strerror}); name a file "
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
        _write(file, "[]")
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
