"""The embedding tables: their TorchRec descriptions and their initial rows.

D embedding dimension.
"""

import torch
from torch import Tensor
from torchrec import EmbeddingBagConfig, PoolingType

from recsys_mtl.config import Data
from recsys_mtl.data.features import table_sizes
from recsys_mtl.model.random import seeded_generator

_TABLE_ROWS = 0  # separates these draws from dropout's
_BLOCK_ROWS = 65_536


def table_descriptions(data: Data) -> list[EmbeddingBagConfig]:
    """One TorchRec table for each feature that owns one, in the order of the configuration.

    Every table pools by sum: pooling is a feature's in our configuration and a table's in
    TorchRec's, so the mean is taken from the sum afterwards (`distributed/sharding.py`).
    """
    sizes, features = table_sizes(data), dict(data.id_features())
    return [
        EmbeddingBagConfig(
            name=table_name(owner),
            num_embeddings=sizes[owner],
            embedding_dim=features[owner].embedding_dim,
            feature_names=[n for n, f in features.items() if (f.table or n) == owner],
            pooling=PoolingType.SUM,
        )
        for owner in sizes
    ]


def table_name(owner: str) -> str:
    """What TorchRec calls the table of feature `owner`.

    Not the feature's own name: tables become attributes of a module, where `items` or `type` of a
    click log would hide its methods.
    """
    return f"{owner}_table"


def pooled_width(data: Data) -> int:
    """Columns of all features' pooled embeddings side by side."""
    features = dict(data.id_features())
    return sum(features[f.table or n].embedding_dim or 0 for n, f in features.items())


def initial_rows(
    *, seed: int, table: int, total_rows: int, dim: int, start: int, stop: int
) -> Tensor:
    """[stop - start, D] Rows start to stop of a table before training, on the CPU.

    Uniform in +-1/sqrt(rows), as DLRM (Naumov et al. 2019) initialises them. Drawn block by block
    from (seed, table, block), so that any shard on any worker starts with the same numbers.
    """
    blocks = [torch.empty(0, dim)]  # row-wise, a worker's shard of a short table holds no row
    for block in range(start // _BLOCK_ROWS, -(-stop // _BLOCK_ROWS)):
        first = block * _BLOCK_ROWS
        generator = seeded_generator(seed, _TABLE_ROWS, table, block)
        drawn = torch.rand(min(_BLOCK_ROWS, total_rows - first), dim, generator=generator)
        blocks.append(drawn[max(start - first, 0) : stop - first])
    return torch.cat(blocks).mul_(2).sub_(1).div_(total_rows**0.5)
