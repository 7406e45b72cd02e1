"""A function called again and again on a thread of its own."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_JOIN_SECONDS = 10.0
_log = logging.getLogger(__name__)


@contextmanager
def repeating(call: Callable[[], None], *, seconds: float, name: str) -> Iterator[None]:
    """Calls between `with` and its end, with a pause before each.

    Args:
        call: what it raises is logged, and it is called again.
        seconds: the pause.
        name: of the thread.
    """
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(seconds):
            try:
                call()
            except Exception:
                _log.exception("%s failed", name)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=_JOIN_SECONDS)
