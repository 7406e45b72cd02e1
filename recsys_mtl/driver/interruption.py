"""Ctrl-C from within: how another thread of the driver ends what its own thread does."""

import ctypes
import os
import signal
import threading
from collections.abc import Callable


def in_main_thread() -> bool:
    """Whether this is the thread that Python's signal handlers belong to."""
    return threading.current_thread() is threading.main_thread()


def interrupter() -> Callable[[], None]:
    """What raises KeyboardInterrupt in the thread that asks for it here; any thread may call it.

    The main thread gets SIGINT, which ends a wait, too. Another one, such as a notebook's own, is
    interrupted when it next runs Python code.
    """
    if in_main_thread():
        return lambda: os.kill(os.getpid(), signal.SIGINT)
    thread = ctypes.c_ulong(threading.get_ident())

    def interrupt() -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(KeyboardInterrupt))

    return interrupt
