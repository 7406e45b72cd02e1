"""The run's Prometheus endpoint, and the sign that asks workers to stop.

Runs as an actor that the driver makes, so that it outlives restarts of the workers. Rank 0 sends
it a `Snapshot` at every log interval and does not wait; the driver tells it how the run ends.
Counters show the run's totals, which travel with its checkpoints: a step that is trained again
after a restart of the workers is not counted twice. When this process is lost, Ray makes another,
and the driver hands over what it last heard.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from prometheus_client import CollectorRegistry, Metric, generate_latest

from recsys_mtl.metrics.families import families
from recsys_mtl.metrics.page_server import serve_page
from recsys_mtl.metrics.snapshot import RunFacts, RunView, Snapshot, State, Status


class RunExporter:
    """Serves a run's metrics over HTTP."""

    def __init__(self, facts: RunFacts) -> None:
        self._view = RunView(facts)
        self._attempts = self._earlier_attempts = 0
        self._sharding: tuple[str, ...] | None = None
        self._port: int | None = None
        self._scrapes = 0
        self._stop_asked = False
        self._shown: dict[tuple[str, ...], float] = {}
        self._page: bytes | None = None
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def serve(
        self,
        bind_address: str,
        ports: Sequence[int],
        token: str | None,
        earlier: Status | None = None,
    ) -> int:
        """Answer scrapes, and return the port; see `serve_page`.

        Args:
            earlier: of an exporter that was lost.

        Raises:
            OSError: no port is free.
        """
        if earlier is not None:
            self._take_over(earlier)
        self._port = serve_page(self.page, bind_address, ports, token)
        return self._port

    def begin(self, sharding: Sequence[str]) -> None:
        """An attempt begins, with its tables lying as these lines say."""
        self._attempts, self._sharding = self._attempts + 1, tuple(sharding)
        self._change(restarts=self._restarts())

    def update(self, snapshot: Snapshot) -> None:
        """Show `snapshot` from now on; what it has no evaluation for, keeps the one before."""
        before = self._view.snapshot
        if before is not None and not snapshot.evaluation:
            snapshot = replace(snapshot, evaluation=before.evaluation)
        self._change(snapshot=snapshot, updated_at=time.time())

    def end(self, state: State) -> None:
        """The run has ended so."""
        self._change(state=state, ended_at=time.time())

    def ask_to_stop(self) -> None:
        """Have the workers take a checkpoint and leave."""
        self._stop_asked = True

    def stop_asked(self) -> bool:
        """Whether somebody did."""
        return self._stop_asked

    def status(self) -> Status:
        """What the driver follows."""
        return Status(
            port=self._port,
            view=self._view,
            sharding=self._sharding,
            attempts=self._earlier_attempts + self._attempts,
            scrapes=self._scrapes,
        )

    def page(self) -> bytes:
        """What a scrape gets, made anew only after something has changed."""
        with self._lock:
            self._scrapes += 1
            if self._page is None:
                self._page = generate_latest(self._registry)
            return self._page

    def collect(self) -> Iterator[Metric]:
        """The families of a page, for prometheus_client."""
        return families(self._view, self._not_lower)

    def describe(self) -> list[Metric]:
        """Nothing: else prometheus_client would collect once to learn the names."""
        return []

    def _take_over(self, earlier: Status) -> None:
        own, self._view = self._view.snapshot, earlier.view
        list(self.collect())  # from where counters go on
        self._earlier_attempts = earlier.attempts
        self._scrapes = max(self._scrapes, earlier.scrapes)
        self._change(restarts=self._restarts())
        if own is not None:
            self.update(own)  # rank 0 was faster

    def _restarts(self) -> int:
        return max(0, self._earlier_attempts + self._attempts - 1)

    def _change(self, **changes: object) -> None:
        with self._lock:
            self._view = replace(self._view, **changes)  # type: ignore[arg-type]
            self._page = None

    def _not_lower(self, key: tuple[str, ...], value: float) -> float:
        self._shown[key] = max(self._shown.get(key, 0.0), value)
        return self._shown[key]
