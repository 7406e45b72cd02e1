"""An iterator that runs ahead on a thread of its own."""

import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")

_STOP_SECONDS = 10.0  # a read that hangs must not hold up the error that ends the run
_READ_SECONDS = 300.0  # a read that hangs must not hang the run


class _End:
    """Stands behind the last item."""


class Background(Generic[Item]):
    """Makes items on a thread, at most `ahead` before they are asked for.

    Iterate once, inside a `with` block, which ends the thread. What the thread raises is raised by
    the iteration, so nothing waits for ever.
    """

    def __init__(self, items: Iterable[Item], ahead: int) -> None:
        self._items = items
        self._queue: queue.Queue[Item | BaseException | _End] = queue.Queue(maxsize=ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="click-log-reader", daemon=True)

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
        self._thread.join(_STOP_SECONDS)

    def __iter__(self) -> Iterator[Item]:
        assert self._thread.ident is not None, "nothing reads outside the `with` block"
        while not self._stopped.is_set():
            try:
                item = self._queue.get(timeout=_READ_SECONDS)
            except queue.Empty:
                message = f"the reader gave no rows for {_READ_SECONDS} s; is the storage hanging?"
                raise TimeoutError(message) from None
            if isinstance(item, _End):
                self._stopped.set()
            elif isinstance(item, BaseException):
                self._stopped.set()
                raise item
            else:
                yield item

    def _fill(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(_End())
        except BaseException as error:  # raised again by the thread that iterates
            self._put(error)

    def _put(self, item: Item | BaseException | _End) -> bool:
        """Wait for a place in the queue; False when nobody wants the item any more."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
