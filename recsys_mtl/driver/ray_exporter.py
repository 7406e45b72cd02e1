"""How the driver reaches the run's exporter where that is an actor of Ray; see `Exporter`."""

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from recsys_mtl.driver.endpoint import ExporterLostError
from recsys_mtl.exporter.actor import RunExporter
from recsys_mtl.exporter.snapshot import RunInfo, RunView, State, Status

_START_SECONDS = 120
_ANSWER_SECONDS = 5


class ActorExporter:
    """Runs a `RunExporter` in a process of its own on this node, which Ray starts again when it
    dies."""

    def __init__(self, info: RunInfo) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.actor: Any = (
            ray.remote(RunExporter)
            .options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)
            .remote(info)
        )
        """The handle that rank 0 feeds."""
        self._was_waited_for = False

    def serve(
        self,
        bind_address: str,
        ports: Sequence[int],
        token: str | None,
        earlier: Status | None = None,
    ) -> int:
        """See `RunExporter.serve`; the first call waits for the actor's start."""
        seconds = _ANSWER_SECONDS if self._was_waited_for else _START_SECONDS
        self._was_waited_for = True
        return int(_answer(self.actor.serve.remote(bind_address, ports, token, earlier), seconds))

    def status(self) -> Status:
        """See `RunExporter.status`."""
        status: Status = _answer(self.actor.status.remote())
        return status

    def show(self, view: RunView) -> None:
        """See `RunExporter.show`; does not wait."""
        self.actor.show.remote(view)

    def ask_to_stop(self) -> None:
        """See `RunExporter.ask_to_stop`; does not wait."""
        self.actor.ask_to_stop.remote()

    def end(self, state: State) -> None:
        """See `RunExporter.end`."""
        _answer(self.actor.end.remote(state))


def _answer(call: Any, seconds: float = _ANSWER_SECONDS) -> Any:
    """Wait for what the actor returns.

    Raises:
        OSError: the actor raised one.
        ExporterLostError: the actor did not answer within `seconds`, or failed otherwise.
    """
    try:
        return ray.get(call, timeout=seconds)
    except RayError as error:
        cause = getattr(error, "cause", None)
        raise cause if isinstance(cause, OSError) else ExporterLostError(str(error)) from None
