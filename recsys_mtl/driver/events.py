"""What the driver tells while a run goes on: sentences on a terminal, elsewhere JSON, a line each.

{"time": "2026-03-01T09:30:00.250Z", "level": "info", "event": "metrics", "message":
 "metrics: http://10.0.0.7:9400/metrics", "url": "http://10.0.0.7:9400/metrics"}
"""

import json
import math
import sys
import threading
from collections.abc import Mapping
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
        _write(sys.stdout, _line("info", event, sentence, fields))
    else:
        with suppress(OSError):
            console.print(sentence, markup=False)


def log_error(event: str, sentence: str, **fields: Any) -> None:
    """Tell on stderr what ends the run."""
    text = _line("error", event, sentence, fields) if _as_json else f"recsys-mtl: {sentence}"
    _write(sys.stderr, text)


def _write(stream: TextIO, line: str) -> None:
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
