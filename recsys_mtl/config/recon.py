"""Whether a run counts, layer by layer, how often its tasks conflict."""

from typing import Annotated

from pydantic import Field

from recsys_mtl.config.section import Section


class Recon(Section):
    """The first steps of the run count, for each shared layer and each embedding table, the pairs
    of tasks whose gradients conflict there: the score by which Recon chooses task-specific layers.

    Such a step takes one backward and one exchange of table gradients per task, whatever the
    method; how tasks are weighed and how parameters move is as without this section.

    Source: Shi et al., "Recon: Reducing Conflicting Gradients from the Root for Multi-Task
    Learning", ICLR 2023.
    """

    threshold: Annotated[float, Field(gt=-1, le=0)]
    """S: two tasks conflict in a layer where the cosine of their gradients is below it."""
    search_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Which share of the run's steps counts, from the first on; 1 is the whole run."""
    search_only: bool = False
    """Whether the run ends after these steps. Its learning rates are those of the whole run."""

    def search_steps(self, last_step: int) -> int:
        """How many steps count, at least one.

        Args:
            last_step: steps at the end of the whole run.
        """
        return max(1, round(self.search_share * last_step))
