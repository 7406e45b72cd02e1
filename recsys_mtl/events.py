"""What the driver tells while a run goes on: sentences on a terminal, elsewhere JSON, a line each.

{"time": "2026-03-01T09:30:00.250Z", "level": "info", "event": "metrics", "message":
 "metrics: http://10.0.0.7:9400/metrics", "url": "http://10.0.0.7:9400/metrics"}
"""

import json
import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from rich.console import Console

Format = Literal["auto", "text", "json"]

console = Console(highlight=False, soft_wrap=True)
_as_json = not sys.stdout.isatty()


def choose_format(wanted: Format) -> None:
    """Sentences or JSON from now on; `auto` is JSON where stdout is not a terminal."""
    global _as_json
    _as_json = not sys.stdout.isatty() if wanted == "auto" else wanted == "json"


def is_json() -> bool:
    """Whether events are told as JSON."""
    return _as_json


def tell(event: str, sentence: str, **fields: Any) -> None:
    """Tell what happened.

    Args:
        event: a word for programs, the same whenever this happens.
        sentence: for people.
        fields: what else programs may want, of JSON's types; numbers that are not finite become
            null.
    """
    if _as_json:
        print(_line("info", event, sentence, fields), flush=True)
    else:
        console.print(sentence, markup=False)


def complain(event: str, sentence: str, **fields: Any) -> None:
    """Tell on stderr what ends the run."""
    text = _line("error", event, sentence, fields) if _as_json else f"recsys-mtl: {sentence}"
    print(text, file=sys.stderr, flush=True)


def _line(level: str, event: str, sentence: str, fields: Mapping[str, Any]) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = {"time": now, "level": level, "event": event, "message": sentence}
    return json.dumps(_finite(head | dict(fields)), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(name): _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
