"""What scores a batch on one worker: its shards of the tables, and the body.

Training holds one, and so does everything that scores what was trained.

B rows of this worker's batch, E columns of all pooled embeddings, T tasks, P shared parameters of
the body, H parameters of the tasks' own.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.data.batch import ClickBatch, FeatureBatch
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.sharding import Lookup, ShardedTables
from recsys_mtl.model.bodies.contract import MultiTaskBody
from recsys_mtl.model.flat_memory import FlatMemory
from recsys_mtl.model.forward import Forward, run_forward
from recsys_mtl.model.ownership import Ownership


@dataclass(frozen=True)
class DistributedModel:
    """The parameters of a run, and the forward through them."""

    config: RunConfig
    context: WorkerContext
    tables: ShardedTables | None
    """None for a model without id features."""
    body: MultiTaskBody
    ownership: Ownership
    """Which of the body's shared parameters lie below the representation."""
    shared: FlatMemory
    """The body's shared parameters, [P]."""
    task_specific: FlatMemory
    """The tasks' own parameters, [H]: one layer per task."""

    def look_up(
        self, batch: ClickBatch | FeatureBatch, learning_rate_factor: float = 1.0
    ) -> Lookup | None:
        """The batch's pooled embeddings; None for a model without id features.

        The tables' learning rate is decided here: TorchRec's lookup takes it along.
        """
        if self.tables is None or batch.ids is None:
            return None
        return self.tables.look_up(batch.ids, learning_rate_factor)

    def forward(
        self, lookup: Lookup | None, dense: Tensor, masks: dict[str, Tensor] | None = None
    ) -> Forward:
        """The body on pooled embeddings and dense inputs.

        Args:
            masks: of dropout; None in evaluation.
        """
        return run_forward(
            self.body,
            self.ownership,
            dense.new_empty(len(dense), 0) if lookup is None else lookup.pooled,
            dense,
            masks or {},
            num_tasks=len(self.config.task_names),
            precision=getattr(torch, self.config.training.precision),
        )

    @torch.no_grad()  # and not inference_mode, under which fbgemm's CPU look-up has no kernel
    def score(self, batch: ClickBatch | FeatureBatch) -> Tensor:
        """[B, T] The batch's logits; collective, so every worker makes the same calls."""
        return self.forward(self.look_up(batch), batch.dense).logits

    def state_dict(self) -> dict[str, Any]:
        """Parameters, tables and the tables' optimizer state, by the names of a checkpoint.

        Tensors are views of what the forward reads: loading writes it in place.

        Raises:
            UserError: a parameter of the body has the name of something else.
        """
        return merged_by_name(
            self.body,
            self.shared.views(self.shared.vector),
            self.task_specific.views(self.task_specific.vector),
            self.tables.state_dict() if self.tables is not None else {},
        )


def merged_by_name(body: MultiTaskBody, *parts: dict[str, Any]) -> dict[str, Any]:
    """All parts of a checkpoint in one flat mapping.

    Raises:
        UserError: two parts have one name, which a parameter of the body has taken.
    """
    tensors: dict[str, Any] = {}
    for part in parts:
        if taken := tensors.keys() & part.keys():
            raise UserError(
                f"the body {type(body).__name__} has a parameter {min(taken)!r}, which is "
                "the name of something else in a checkpoint; give it another name"
            )
        tensors |= part
    return tensors
