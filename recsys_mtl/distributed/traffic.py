"""How many bytes the tables' exchanges send, known from the plan and the batch's shape.

B batch rows of this worker, W workers.
"""

from collections.abc import Sequence

from torch import Tensor

from recsys_mtl.config import Data
from recsys_mtl.data.batch import IdBags
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.planning import PlanRecord
from recsys_mtl.distributed.torchrec_inputs import table_name

_FLOAT_BYTES = 4


class TableTraffic:
    """Counts what this worker sends to others; nothing is measured on the wire."""

    def __init__(self, data: Data, plan: PlanRecord, context: WorkerContext) -> None:
        self._context = context
        self._remote = {}  # feature to the shards of its table on other workers
        self._by_rows = {}  # feature to whether those share its ids out among themselves
        for name, feature in data.id_features():
            shards = plan[table_name(feature.table or name)]
            self._remote[name] = [s for s in shards if s["rank"] != context.rank]
            self._by_rows[name] = shards[0]["kind"] == "row_wise"

    def of_lookup(self, ids: IdBags, outputs: Sequence[Tensor]) -> dict[str, int]:
        """Bytes of one batch's ids and embeddings, by kind.

        Every shard on another worker is sent one length per row, and the feature's ids; row-wise
        shards get each the ids of their own rows, here counted as an even part.

        Args:
            ids: this worker's rows.
            outputs: [W B, columns] each, what this worker's shards hold for all workers.
        """
        inputs, batch_rows = 0, len(ids.lengths) // len(ids.names)
        for name, num_ids in zip(ids.names, ids.ids_per_feature, strict=True):
            remote = len(self._remote[name])
            copies = remote / self._context.world_size if self._by_rows[name] else remote
            inputs += round(copies * num_ids) * ids.values.element_size()
            inputs += remote * batch_rows * ids.lengths.element_size()
        world_size = self._context.world_size
        embeddings = sum(o.nbytes for o in outputs) * (world_size - 1) // world_size
        return {"table_inputs": inputs, "table_outputs": embeddings}

    def of_gradient(self, batch_rows: int) -> int:
        """Bytes of one gradient for the embeddings, to the shards on other workers."""
        columns = sum(int(s["sizes"][1]) for shards in self._remote.values() for s in shards)
        return batch_rows * columns * _FLOAT_BYTES
