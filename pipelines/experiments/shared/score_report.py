"""The report of an experiment that is one table of methods: Markdown, numbers and a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from pipelines.experiments.shared.command import Asked, Report
from pipelines.experiments.shared.figures import draw_differences
from pipelines.experiments.shared.markdown import score_table
from pipelines.experiments.shared.method_arms import SINGLE_TASK, UNIFORM
from pipelines.experiments.shared.paper import Published
from pipelines.experiments.shared.scores import Line, lines_of, scores_of


def score_report(
    asked: Asked,
    found: Mapping[str, Any],
    tasks: Sequence[str],
    *,
    words: str,
    published: Mapping[str, Published] | None = None,
    split: Literal["eval", "test"] = "test",
) -> Report:
    """The scores of a sweep's arms beside the paper's; differences are from uniform.

    Args:
        found: what the sweep returned.
        words: what the numbers are of.
        published: the paper's lines by arm.
        split: of which rows.
    """
    scores, reference = scores_of(found, split), UNIFORM.name
    lines = lines_of(scores, tasks, reference=reference, baseline=SINGLE_TASK.name)
    if any(line.differences for line in lines):
        draw_differences(lines, tasks, asked.picture, reference=reference, published=published)
    return Report(
        f"{words}\n{score_table(lines, tasks, reference=reference, published=published)}",
        {"arms": [numbers_of(line, published) for line in lines]},
        [found],
    )


def numbers_of(line: Line, published: Mapping[str, Published] | None) -> dict[str, Any]:
    """A line as JSON holds it, with the paper's beside it."""
    row = None if published is None else published.get(line.arm)
    return asdict(line) | {"paper": None if row is None else row._asdict()}
