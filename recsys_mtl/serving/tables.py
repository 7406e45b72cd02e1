"""Embedding tables in memory-mapped files, and the look-up.

n rows, I id features, D columns of a table, E columns of all pooled embeddings.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from recsys_mtl.data.features import Ragged
from recsys_mtl.serving.bundle import Bundle, BundleError, StoredTable


class MappedTables:
    """The tables of a bundle. Processes on one machine share their memory."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        """Map the files; pages of them are read when ids need them.

        Raises:
            BundleError: a file is missing or no table of the shape that the bundle tells.
        """
        tables = {name: _mapped(folder, stored) for name, stored in bundle.tables.items()}
        self._features = [
            (tables[feature.table or name], feature.pooling == "mean")
            for name, feature in bundle.id_features()
        ]

    def pool(self, features: Sequence[Ragged]) -> Tensor:
        """[n, E] float32: each bag's rows, summed or averaged, features side by side."""
        columns = []
        for bags, (table, mean) in zip(features, self._features, strict=True):
            ids, offsets = torch.from_numpy(bags.values), torch.from_numpy(bags.offsets)
            if table.dtype == torch.float16:
                # Sums in float16 err by 3e-4 at 30 ids, so the rows are converted first.
                ids, table = torch.arange(len(ids)), table[ids].float()
            pooled = embedding_bag(ids, table, offsets, mode="sum", include_last_offset=True)
            if mean:  # as in training: an empty bag gives zeros
                pooled /= offsets.diff().clamp(min=1).unsqueeze(1)
            columns.append(pooled)
        return torch.cat(columns, dim=1)


def _mapped(folder: Path, stored: StoredTable) -> Tensor:
    """[rows, D] on the pages of the file."""
    path = folder / stored.file
    try:
        # Copy-on-write, as torch warns of memory that cannot be written. Nothing here writes.
        table = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path} cannot be read as a table ({error}); copy or export the bundle again"
        ) from None
    wanted = (stored.rows, stored.columns)
    if table.shape != wanted or table.dtype != stored.type or not table.flags.c_contiguous:
        raise BundleError(
            f"{path} holds {table.dtype} {table.shape}, and not {stored.type} {wanted}; copy or "
            "export the bundle again"
        )
    return torch.from_numpy(table)
