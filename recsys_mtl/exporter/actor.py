"""The run's Prometheus endpoint, and the sign that asks workers to stop.

Runs as an actor that the driver makes, so that it outlives restarts of the workers, or in the
driver's process where that trains itself. Rank 0 sends it a `Snapshot` at every log interval and
does not wait; the driver tells it how the run ends.

No counter ever goes back, whichever worker or exporter is lost. Counters are the run's totals,
which its checkpoints hold, and stay at their highest while workers train the same steps again. When
this process is lost, Ray makes another, and the driver hands over the view that it last heard of.
Pages show a view only when the driver has it (`show`), so no scrape has ever seen more than that.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest

from recsys_mtl.exporter.families import counts_of, families
from recsys_mtl.exporter.page_server import ServedPage, serve_page
from recsys_mtl.exporter.snapshot import Attempt, RunInfo, RunView, Snapshot, State, Status


class RunExporter:
    """Serves a run's metrics over HTTP."""

    def __init__(self, info: RunInfo) -> None:
        self._newest = self._shown = RunView(info)
        self._served: ServedPage | None = None
        self._scrapes = 0
        self._stop_asked = False
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
        """Answers scrapes from now on, and returns the port; see `serve_page`.

        Args:
            earlier: the newest status that the driver has of an exporter that was lost.

        Raises:
            OSError: no port is free.
        """
        if self._served is None:  # else whoever asked did not wait for the answer
            if earlier is not None:
                self._take_over(earlier)
            self._served = serve_page(self.page, bind_address, ports, token)
        return self._served.port

    def close(self) -> None:
        """Answer no more scrapes; an actor ends with its process instead."""
        if self._served is not None:
            self._served.close()
            self._served = None

    def begin(self, attempt: Attempt) -> None:
        """Notes that the workers have started."""
        if attempt not in self._newest.attempts:
            self._change(attempts=(*self._newest.attempts, attempt))

    def update(self, attempt: Attempt, snapshot: Snapshot) -> None:
        """Takes what rank 0 reports; without an evaluation in it, the one before stays."""
        self.begin(attempt)  # in case that message was lost
        before = self._newest.snapshot
        if before is not None and not snapshot.evaluation:
            snapshot = replace(snapshot, evaluation=before.evaluation)
        counts = _highest(self._newest.counts, counts_of(snapshot))
        self._change(snapshot=snapshot, counts=counts, updated_at=time.time())

    def end(self, state: State) -> None:
        """Notes that the run has ended in this state."""
        self._change(state=state, ended_at=time.time())

    def status(self) -> Status:
        """What the driver follows, and keeps."""
        port = None if self._served is None else self._served.port
        return Status(port=port, view=self._newest, scrapes=self._scrapes)

    def show(self, view: RunView) -> None:
        """Has pages show this view, which the driver has."""
        if (view.updated_at, view.attempts, view.state) == (
            self._shown.updated_at,
            self._shown.attempts,
            self._shown.state,
        ):
            return  # as whoever changes a view changes one of these
        with self._lock:
            self._shown, self._page = view, None

    def ask_to_stop(self) -> None:
        """Has the workers take a checkpoint and leave."""
        self._stop_asked = True

    def stop_asked(self) -> bool:
        """Returns whether `ask_to_stop` was called."""
        return self._stop_asked

    def page(self) -> bytes:
        """Returns what a scrape gets; it is made anew only after something has changed."""
        with self._lock:
            self._scrapes += 1
            if self._page is None:
                self._page = generate_latest(self._registry)
            return self._page

    def collect(self) -> Iterator[Metric]:
        """Returns the families of a page, for prometheus_client."""
        return families(self._shown)

    def describe(self) -> list[Metric]:
        """Returns nothing, or prometheus_client would collect once more to learn the names."""
        return []

    def _take_over(self, earlier: Status) -> None:
        self._scrapes = max(self._scrapes, earlier.scrapes)
        self.show(earlier.view)
        heard, self._newest = self._newest, earlier.view  # rank 0 may have been faster
        for attempt in heard.attempts:
            self.begin(attempt)
        if heard.snapshot is not None:
            self.update(heard.attempts[-1], heard.snapshot)
        if heard.ended_at is not None:
            self._change(state=heard.state, ended_at=heard.ended_at)

    def _change(self, **changes: Any) -> None:
        self._newest = replace(self._newest, **changes)


def _highest(
    before: Mapping[tuple[str, ...], float], now: Mapping[tuple[str, ...], float]
) -> dict[tuple[str, ...], float]:
    return {key: max(count, before.get(key, 0.0)) for key, count in now.items()}
