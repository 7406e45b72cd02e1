"""Where a trained model scores a log: on Ray's workers, or in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recsys_mtl.config import RunConfig
from recsys_mtl.worker.job import ScoringJob

Advance = Callable[[int], None]
"""Is told of so many more rows."""


def run_scoring(job: ScoringJob, what: str, rows: int) -> dict[str, Any]:
    """Do the job on the workers that its model's configuration asks for.

    Args:
        what: is done with the rows, for the progress bar.
        rows: that are scored in all.

    Returns:
        What the workers found.

    Raises:
        UserError: the model or the log cannot be used.
        TrainingError: a worker failed, more often than cluster.max_restarts.
    """
    config: RunConfig = job.model.config
    with showing_rows(what, rows) as advance:
        # Each branch imports what the other one does without.
        if config.cluster.in_this_process:
            from recsys_mtl.driver.local_scoring import score_here

            return score_here(job, advance)
        from recsys_mtl.driver.ray_scoring import score_on_ray

        return score_on_ray(job, advance)


@contextmanager
def showing_rows(what: str, rows: int) -> Iterator[Advance]:
    """Show how many of `rows` are done, on stderr, where a person can see it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)  # the result is what stdout is for
    quiet = not console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        bar = progress.add_task(what, total=rows)
        yield lambda more: progress.advance(bar, more)
