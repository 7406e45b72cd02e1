"""How the three tasks of the synthetic click log relate: how often, and how alike their causes are.

Every column moves the three logits. Two knobs say how the moves of one task go with those of the
others, and how rare its positives are, which decides how large its gradients are beside theirs.
"""

# T tasks, C dense columns

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

TASK_RATES = {"purchase": 0.06, "cart": 0.08, "wish": 0.07}
TASKS = tuple(TASK_RATES)
# Of the three effects of one id. The negative entries are what makes the tasks conflict.
TASK_CORRELATION = np.array([[1.0, 0.4, -0.7], [0.4, 1.0, -0.4], [-0.7, -0.4, 1.0]])
LOWEST_CORRELATION = -1 / (len(TASKS) - 1)
"""No three variables can all have a lower correlation with each other."""


@dataclass(frozen=True)
class TaskRelation:
    """The two knobs; without them the log is the demo's.

    Raises:
        ValueError: a value is out of range; says which, and the range.
    """

    correlation: float | None = None
    """Of the effects of any two tasks, above -0.5 and below 1: near 1 what makes a click a purchase
    makes it a cart and a wish, too; near -0.5 the tasks pull apart as far as three can. None has
    TASK_CORRELATION."""
    rates: tuple[float, ...] = tuple(TASK_RATES.values())
    """Share of positives of each task."""

    def __post_init__(self) -> None:
        if len(self.rates) != len(TASKS) or not all(0 < rate < 1 for rate in self.rates):
            raise ValueError(
                f"rates are {self.rates}; give one between 0 and 1 per task: {', '.join(TASKS)}"
            )
        if self.correlation is not None and not LOWEST_CORRELATION < self.correlation < 1:
            raise ValueError(
                f"the correlation is {self.correlation}; three tasks can have one above "
                f"{LOWEST_CORRELATION} and below 1"
            )

    def mixing(self) -> FloatArray:
        """[T, T] Turns independent draws [.., T] into effects of the wanted correlation: z M'."""
        wanted: FloatArray = TASK_CORRELATION
        if self.correlation is not None:
            wanted = np.full_like(TASK_CORRELATION, self.correlation)
            np.fill_diagonal(wanted, 1.0)
        return np.asarray(np.linalg.cholesky(wanted), np.float64)

    def relate(self, effects: FloatArray) -> FloatArray:
        """Effects [C, T], written by hand with TASK_CORRELATION, with the wanted correlation.

        Each task keeps its root mean square over the columns, so that as much can be known of it.
        """
        if self.correlation is None:
            return effects
        independent = np.linalg.solve(np.linalg.cholesky(TASK_CORRELATION), effects.T).T
        related = independent @ self.mixing().T
        scale = np.sqrt((effects**2).mean(axis=0) / (related**2).mean(axis=0))
        found: FloatArray = related * scale
        return found


DEMO = TaskRelation()
