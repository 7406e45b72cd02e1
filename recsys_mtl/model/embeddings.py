"""The embedding tables, wherever they lie: their width and their initial rows.

D embedding dimension.
"""

import torch
from torch import Tensor

from recsys_mtl.config import Data
from recsys_mtl.model.random import seeded_generator

_TABLE_ROWS = 0  # separates these draws from dropout's
_BLOCK_ROWS = 65_536


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
