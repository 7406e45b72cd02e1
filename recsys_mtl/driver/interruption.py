"""How one thread of the driver interrupts another one, as Ctrl-C would."""

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def in_main_thread() -> bool:
    """Return whether signal handlers run in this thread, and may be set by it."""
    return threading.current_thread() is threading.main_thread()


def interrupter() -> Callable[[], None]:
    """Return a function that raises KeyboardInterrupt in the thread that calls this.

    Any thread may call what is returned. The main thread gets SIGINT, which also ends a wait.
    Another thread is interrupted when it next runs Python code.
    """
    if in_main_thread():
        return lambda: os.kill(os.getpid(), signal.SIGINT)
    thread = ctypes.c_ulong(threading.get_ident())

    def interrupt() -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(KeyboardInterrupt))

    return interrupt


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Have SIGINT end the context by KeyboardInterrupt, whatever libraries make of it.

    torch.distributed.checkpoint, which it may come to while it writes, takes it for an error of
    its own. In a thread other than the main one this does nothing.
    """
    before = signal.getsignal(signal.SIGINT)
    if not in_main_thread() or not callable(before):
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Let the context come to its end before a SIGINT that comes meanwhile takes effect.

    For torch's checkpoint writer: its destructor writes to a file that the exception has closed,
    and the process aborts. A second SIGINT is not held back. In a thread other than the main one
    this does nothing.
    """
    before = signal.getsignal(signal.SIGINT)
    if not in_main_thread() or not callable(before):
        yield
        return
    held: list[tuple[int, FrameType | None]] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            before(number, frame)
        held.append((number, frame))

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            before(*held[0])
