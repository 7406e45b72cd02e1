"""How embedding tables are cut over the workers."""

from typing import Literal, Self

from pydantic import model_validator

from recsys_mtl.config.section import PositiveInt, Section


class TableSharding(Section):
    """What TorchRec's planner may choose for one table."""

    kind: Literal["table_wise", "column_wise", "row_wise", "data_parallel"] = "table_wise"
    """The whole table on one worker, or cut by columns, or, on CUDA only, by rows. A table on every
    worker (data_parallel) is refused: its gradients would stay local and escape the optimizer."""
    kernel: Literal["fused", "fused_uvm", "fused_uvm_caching"] = "fused"
    """Where its rows live on CUDA: in the GPU's memory, in the host's, or in the host's with a
    cache on the GPU. On CPU there is `fused` only."""
    columns_per_shard: PositiveInt | None = None
    """With `column_wise`: columns of one shard, a divisor of the table's `embedding_dim` and a
    multiple of 4."""

    @model_validator(mode="after")
    def _kind_is_possible(self) -> Self:
        if self.kind == "data_parallel":
            raise ValueError(
                "kind is data_parallel, where each worker's gradients would stay with it and the "
                "tables never move; choose table_wise, column_wise or, on CUDA, row_wise"
            )
        if (self.kind == "column_wise") != (self.columns_per_shard is not None):
            raise ValueError(
                "columns_per_shard is the width of one shard of a column_wise table: give both or "
                "neither"
            )
        if self.columns_per_shard is not None and self.columns_per_shard % 4:
            raise ValueError(
                f"columns_per_shard is {self.columns_per_shard}; it must be a multiple of 4, as "
                "fbgemm's kernels load 4 floats"
            )
        return self
