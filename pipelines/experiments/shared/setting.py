"""What an experiment trains on: a run, and three sets of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """A run's YAML and its rows; the run's data.eval are those on which choices are made."""

    run_yaml: Path
    train: str
    """The rows that are trained on."""
    test: str
    """The rows that judge, once."""
    label_columns: Mapping[str, str]
    """Task to the column of its label."""
    training: str
    """What is trained on, in words: `59,857 training rows, 30 epochs`."""
    judging: str
    """What the numbers of a table are of, in words."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Their names, in the order of the papers' tables."""
        return tuple(self.label_columns)

    def in_words(self, seeds: Sequence[int]) -> str:
        """One paragraph for a report."""
        return f"{self.training}, {seeds_in_words(seeds)}; {self.judging}.\n"


def seeds_in_words(seeds: Sequence[int]) -> str:
    """`seed 1`, or `seeds 1 to 20`."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
