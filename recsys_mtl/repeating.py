"""A function called again and again on a thread of its own."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

_JOIN_SECONDS = 10.0
_log = logging.getLogger(__name__)


class Repeating:
    """Calls between `with` and its end, with a pause before each."""

    def __init__(self, call: Callable[[], None], *, seconds: float, name: str) -> None:
        """Name what to call.

        Args:
            call: what it raises is logged, and it is called again.
            seconds: the pause.
            name: of the thread.
        """
        self._call, self._seconds = call, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join(timeout=_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._call()
            except Exception:
                _log.exception("%s failed", self._thread.name)
