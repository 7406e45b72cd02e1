"""How long a run trains, in what portions, and what it keeps of it."""

from typing import Annotated, Literal

from pydantic import Field

from recsys_mtl.config.best import BestBy
from recsys_mtl.config.section import PositiveFloat, PositiveInt, Section


class Training(Section):
    """How long and in what portions."""

    global_batch_size: PositiveInt
    """Rows of a step over all workers; split evenly over the lanes."""
    epochs: PositiveInt | None = None
    """Passes over data.train. With neither this nor `max_steps`: one."""
    max_steps: PositiveInt | None = None
    """Ends the run at this step; with `epochs` too, whichever comes first."""
    warm_up_steps: Annotated[int, Field(ge=0)] = 0
    """Learning rates rise linearly to their value over this many steps; then `optimizer.schedule`
    begins."""
    gradient_clip_norm: PositiveFloat | None = None
    """Largest norm of the combined gradient of body and tables (with `gradients.scope: bottom`, of
    the body, the tables taking the same factor); the tasks' own parameters are clipped apart."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """How products in body and heads are computed (autocast). Parameters, sums, the Gram and
    the optimizers' moments stay as they are; tables and their gradients are float32."""
    log_interval_steps: PositiveInt = 20
    """Steps between two looks at the counters: progress line, exporter, trace."""
    auc_window_steps: PositiveInt = 200
    """The training AUC covers between one and two of these windows."""
    checkpoint_interval_steps: PositiveInt | None = 1000
    """Steps between checkpoints; null leaves only the one at the end."""
    evaluation_interval_steps: PositiveInt | None = None
    """Steps between evaluations on data.eval; null leaves only the one at the end."""
    best_by: BestBy | None = None
    """Which evaluation is the best: `mean_auc`, `auc:TASK` (highest) or `log_loss:TASK` (lowest). A
    checkpoint is then saved right after each evaluation; only such a checkpoint can be the best.
    Changed, or with another data.eval, the comparison begins anew."""
    patience_evaluations: PositiveInt | None = None
    """The run ends early when so many evaluations after the best have not been better; null: never.
    An evaluation that does not have the number of `best_by` does not count."""
    checkpoints_kept: PositiveInt = 2
    """How many checkpoints stay: the newest; with `best_by` the best, and always the newest
    besides."""
