"""What `evaluate` has found of a cell on a test log, bound to the log and the training it is of.

A run may be trained anew under the same name: its folder was deleted, or what it left was lost. An
answer of the earlier training says nothing of the new one, so every answer holds what it is of:

{"run": {"url": ..., "checkpoint": "local_checkpoint_000007", "step": 400},
 "data": ..., "rows": 60, "digest": <of the log>, "training": <of the run's result>, "tasks": ...}
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from recsys_mtl.driver.sweep.outcomes import judged_step


def training_digest(result: Mapping[str, Any]) -> str:
    """SHA-256 of a run's result.json as JSON holds it.

    Two trainings never share it, as the result holds how long its training took.
    """
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def answer_text(found: Mapping[str, Any], result: Mapping[str, Any]) -> bytes:
    """The content of an answer file.

    Args:
        found: what `evaluate` returned.
        result: the run's result.json.
    """
    answer = {**found, "training": training_digest(result)}
    return json.dumps(answer, indent=2, allow_nan=False).encode()


def read_answer(text: bytes, result: Mapping[str, Any], test_digest: str) -> dict[str, Any] | None:
    """The answer; None where it is damaged, or of another training or another log.

    Args:
        text: the file's content.
        result: the result.json of the run as it is now.
        test_digest: of the log's manifest.
    """
    try:
        answer = dict(json.loads(text))
        of_this = (
            answer["training"] == training_digest(result)
            and answer["run"]["step"] == judged_step(result)
            and answer["digest"] == test_digest
            and answer["tasks"].keys() == result["tasks"].keys()
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return answer if of_this else None
