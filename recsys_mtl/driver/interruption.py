"""How one thread of the driver interrupts another one, as Ctrl-C would."""

import ctypes
import os
import signal
import threading
from collections.abc import Callable


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
