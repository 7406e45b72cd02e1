"""How commands print what people and programs go on with."""

import os
import sys
import traceback
from collections.abc import Iterable

from recsys_mtl.driver.events import log_error


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to stdout; a reader that has seen enough, such as `head`, is no error."""
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def failed(error: Exception) -> int:
    """Tell what ended the work, with the traceback of its cause in this process; status 1."""
    text = str(error)
    if error.__cause__ is not None:
        text = f"{text}\n{''.join(traceback.format_exception(error.__cause__))}".rstrip()
    log_error("failed", text)
    return 1
