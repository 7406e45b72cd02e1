"""Sharded tensors of another number of rows, to load what was saved with it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.metadata import ShardedTensorMetadata
from torch.distributed._shard.sharded_tensor.shard import Shard


def with_rows(sharded: ShardedTensor, rows: int) -> ShardedTensor:
    """Zeros, sharded alike, of `rows` rows; every shard has all of its table's rows.

    Args:
        sharded: [rows here, ...] a table cut by columns or not at all, or its optimizer's state.
    """
    old = sharded.metadata()
    shards = [_all_rows(shard, rows) for shard in old.shards_metadata]
    metadata = ShardedTensorMetadata(
        shards_metadata=shards,
        size=torch.Size([rows, *old.size[1:]]),
        tensor_properties=replace(old.tensor_properties),
    )
    local = [
        Shard(
            shard.tensor.new_zeros(rows, *shard.tensor.shape[1:]),
            _all_rows(shard.metadata, rows),
        )
        for shard in sharded.local_shards()
    ]
    return ShardedTensor._init_from_local_shards_and_global_metadata(local, metadata)


def _all_rows(shard: ShardMetadata, rows: int) -> ShardMetadata:
    return ShardMetadata(
        shard_offsets=list(shard.shard_offsets),
        shard_sizes=[rows, *shard.shard_sizes[1:]],
        placement=shard.placement,
    )


def has_all_rows(sharded: ShardedTensor) -> bool:
    """Whether no shard is a cut through the rows."""
    metadata = sharded.metadata()
    return all(shard.shard_sizes[0] == metadata.size[0] for shard in metadata.shards_metadata)


def copy_rows(
    target: ShardedTensor, source: ShardedTensor, pairs: Sequence[tuple[slice, slice]]
) -> None:
    """Copy rows of this worker's shards.

    Args:
        pairs: rows of `target` and the rows of `source` that they become.
    """
    for there, here in zip(source.local_shards(), target.local_shards(), strict=True):
        for rows, from_rows in pairs:
            here.tensor.detach()[rows] = there.tensor[from_rows]
