"""What the driver tells while a run goes on: sentences on a terminal, elsewhere JSON, a line each.

{"time": "2026-03-01T09:30:00.250Z", "level": "info", "event": "metrics", "message":
 "metrics: http://10.0.0.7:9400/metrics", "url": "http://10.0.0.7:9400/metrics"}
"""

import io
import json
import logging
import math
import re
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from rich.console import Console

Format = Literal["auto", "text", "json"]


class _Console(Console):
    """rich's, but without its end of the process where the reader has gone away."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


console = _Console(highlight=False, soft_wrap=True)
_one_at_a_time = threading.Lock()
_own_streams: dict[str, TextIO] = {}  # what sys had, while others' lines are told as events
_AS_LOGGED = logging.Formatter("%(message)s")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_as_json = False


def choose_format(wanted: Format) -> None:
    """Sentences or JSON from now on; `auto` is JSON where stdout is not a terminal."""
    global _as_json
    _as_json = not sys.stdout.isatty() if wanted == "auto" else wanted == "json"


def is_json() -> bool:
    """Whether events are told as JSON."""
    return _as_json


def log_event(event: str, sentence: str, **fields: Any) -> None:
    """Tell what happened.

    Args:
        event: a word for programs, the same whenever this happens.
        sentence: for people.
        fields: what else programs may want, of JSON's types; numbers that are not finite become
            null.
    """
    if _as_json:
        _write("stdout", _line("info", event, sentence, fields))
    else:
        with suppress(OSError):
            console.print(sentence, markup=False)


def log_error(event: str, sentence: str, **fields: Any) -> None:
    """Tell on stderr what ends the run."""
    text = _line("error", event, sentence, fields) if _as_json else f"recsys-mtl: {sentence}"
    _write("stderr", text)


def tell_output_of(library: str) -> Callable[[], None]:
    """Tell what a library logs as events of its name, on stderr.

    Where events are JSON, so is whatever else this process prints: Ray prints some of its warnings.

    Returns:
        What ends this.
    """
    logger = logging.getLogger(library)
    handlers, propagate = list(logger.handlers), logger.propagate
    logger.handlers[:], logger.propagate = [_LogHandler(library)], False
    replaced = {name: getattr(sys, name) for name in ("stdout", "stderr")} if _as_json else {}
    _own_streams.update(replaced)
    for name, stream in replaced.items():
        setattr(sys, name, _PrintedLines(library, stream))

    def undo() -> None:
        logger.handlers[:], logger.propagate = handlers, propagate
        for name, stream in replaced.items():
            setattr(sys, name, stream)
            _own_streams.pop(name, None)

    return undo


class _LogHandler(logging.Handler):
    """Turns a library's log records into events."""

    def __init__(self, library: str) -> None:
        super().__init__()
        self._library = library

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record, and the traceback where it has one."""
        try:
            message = _AS_LOGGED.format(record)
        except (TypeError, ValueError):  # the library's arguments do not fit its text
            message = str(record.msg)
        _tell(self._library, record.levelname.lower(), message)


class _PrintedLines(io.TextIOBase):
    """Stands for stdout or stderr, and turns each line that is printed into an event."""

    def __init__(self, library: str, stream: TextIO) -> None:
        self._library, self._stream, self._begun = library, stream, ""

    def write(self, text: str) -> int:
        """Tell the lines that are whole."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            plain = _COLOURS.sub("", line).strip()
            if plain:
                _tell(self._library, "warning", plain)
        return len(text)

    def fileno(self) -> int:
        """Number the real stream, to which the interpreter writes when it crashes."""
        return self._stream.fileno()


def _tell(library: str, level: str, message: str) -> None:
    _write("stderr", _line(level, library, message, {}) if _as_json else f"{library}: {message}")


def _write(name: Literal["stdout", "stderr"], line: str) -> None:
    stream = _own_streams.get(name) or getattr(sys, name)
    # A reader that has gone away, or a full disk, is no reason to stop training.
    with _one_at_a_time, suppress(OSError):
        stream.write(f"{line}\n")
        stream.flush()


def _line(level: str, event: str, sentence: str, fields: Mapping[str, Any]) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = {"time": now, "level": level, "event": event, "message": sentence}
    return json.dumps(finite(head | dict(fields)), allow_nan=False)


def finite(value: Any) -> Any:
    """The same of JSON's types, with None for numbers that are not finite."""
    match value:
        case Mapping():
            return {str(name): finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
