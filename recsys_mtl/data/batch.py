"""Rows of a worker's lanes to one batch of tensors.

B rows of the worker's batch, I id features, N ids of all features, F columns of all dense inputs, T
tasks, C columns read, V one_hot features, R reasons to reject a row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mtl.config import Data, FeatureColumns
from recsys_mtl.data.dense_inputs import dense_inputs
from recsys_mtl.data.features import REJECT_REASONS, EncodedFeatures, EncodedRows, Ragged
from recsys_mtl.data.schema import columns_read


@dataclass(frozen=True, eq=False)
class IdBags:
    """The table rows a batch looks up: for each feature one bag per row, feature by feature."""

    names: tuple[str, ...]
    """[I] The features, in the order of the configuration."""
    values: Tensor
    """[N] int64"""
    lengths: Tensor
    """[I * B] int64: ids per bag, 0 for an empty list and for padding."""
    ids_per_feature: tuple[int, ...]
    """[I] On the host, where nobody has to wait for the device to know them."""

    def bags_of(self, name: str) -> tuple[Tensor, Tensor]:
        """The ids of one feature, and how many there are in each of its B bags; both are views."""
        place = self.names.index(name)
        first = sum(self.ids_per_feature[:place])
        values = self.values[first : first + self.ids_per_feature[place]]
        return values, self.lengths.view(len(self.names), -1)[place]

    def to(self, device: torch.device) -> "IdBags":
        """The ids on `device`, a GPU; the copy does not wait."""
        return replace(
            self, values=_to_device(self.values, device), lengths=_to_device(self.lengths, device)
        )


@dataclass(frozen=True)
class ClickBatch:
    """One worker's part of a global batch: its lanes' rows one lane after the other.

    Every lane fills the same number of rows; where a lane has run out, the rest are padding: empty
    bags, zeros, all labels masked. A padding lane of the plan has run out from the start.
    """

    step: int
    """The step it is trained at, from 0."""
    ids: IdBags | None
    """None for a model without id features."""
    dense: Tensor
    """[B, F] float32"""
    labels: Tensor
    """[B, T] float32, 0 where masked."""
    label_mask: Tensor
    """[B, T] bool, True where the label is known and counts."""
    counts: Tensor
    """[1 + R] float32: rows that are no padding, rejected ones included; then the rejected rows by
    reason, in the order of `REJECT_REASONS`."""
    rows: int
    """The first of them, on the host."""
    keys: NDArray[np.uint64]
    """[B, K] The key of each row's value in each of the key columns asked for, 0 for padding."""
    nulls: NDArray[np.int64]
    """[C] Rows with a null in each column read, in the order of `columns_read`."""
    label_weights: Tensor | None = None
    """[B, T] float32: how much each row counts, 0 where masked; None where no task has a
    sample_weight, and every label counts once."""
    outside_vocabulary: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """[V] Rows with a value that the vocabulary of each one_hot feature lacks."""

    def to(self, device: torch.device) -> "ClickBatch":
        """The batch with its tensors on `device`."""
        if device.type == "cpu":
            return self
        weights = self.label_weights
        return replace(
            self,
            ids=self.ids.to(device) if self.ids is not None else None,
            dense=_to_device(self.dense, device),
            labels=_to_device(self.labels, device),
            label_mask=_to_device(self.label_mask, device),
            counts=_to_device(self.counts, device),
            label_weights=_to_device(weights, device) if weights is not None else None,
        )


@dataclass(frozen=True)
class FeatureBatch:
    """What the model reads of B rows, the last of which may be padding."""

    ids: IdBags | None
    """None for a model without id features."""
    dense: Tensor
    """[B, F] float32"""
    rows: int
    """How many are no padding."""

    def to(self, device: torch.device) -> "FeatureBatch":
        """The batch with its tensors on `device`."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            ids=self.ids.to(device) if self.ids is not None else None,
            dense=_to_device(self.dense, device),
        )


def assemble_features(
    pieces: Sequence[EncodedFeatures], batch_rows: int, data: FeatureColumns
) -> FeatureBatch:
    """Stack pieces, padded to `batch_rows` rows."""
    rows = sum(len(piece.dense) for piece in pieces)
    names = [name for name, _ in data.id_features()]
    padding = np.zeros((batch_rows - rows, data.dense_columns), dtype=np.float32)
    dense = [dense_inputs(piece.dense, piece.places, data) for piece in pieces]
    return FeatureBatch(
        ids=_id_bags(names, [pieces], [batch_rows - rows]) if names else None,
        dense=torch.from_numpy(np.concatenate([*dense, padding])),
        rows=rows,
    )


def assemble(
    step: int,
    lanes: Sequence[Sequence[EncodedRows]],
    rows_per_lane: int,
    data: Data,
    num_keys: int = 0,
) -> ClickBatch:
    """Stack the pieces of each lane, padded to `rows_per_lane` rows per lane.

    Args:
        lanes: for each of the worker's lanes, its pieces in order; none for an exhausted lane.
        num_keys: K, of every piece.
    """
    padding = [rows_per_lane - sum(len(p.rejected) for p in pieces) for pieces in lanes]
    pieces = [piece for lane in lanes for piece in lane]

    def stack(part: Callable[[EncodedRows], NDArray[Any]], width: int, dtype: type) -> NDArray[Any]:
        blocks = []
        for lane, missing in zip(lanes, padding, strict=True):
            blocks += [part(piece) for piece in lane]
            blocks += [np.zeros((missing, width), dtype=dtype)]
        return np.concatenate(blocks)

    def dense(piece: EncodedRows) -> NDArray[np.float32]:
        return dense_inputs(piece.dense, piece.places, data)

    rows = sum(len(p.rejected) for p in pieces)
    none_rejected = np.zeros(len(REJECT_REASONS), dtype=np.int64)
    rejected = sum((p.rejected.sum(axis=0) for p in pieces), start=none_rejected)
    names = [name for name, _ in data.id_features()]
    no_nulls = np.zeros(len(columns_read(data)), dtype=np.int64)
    return ClickBatch(
        step=step,
        ids=_id_bags(names, lanes, padding) if names else None,
        dense=torch.from_numpy(stack(dense, data.dense_columns, np.float32)),
        labels=torch.from_numpy(stack(attrgetter("labels"), len(data.labels), np.float32)),
        label_mask=torch.from_numpy(stack(attrgetter("label_mask"), len(data.labels), np.bool_)),
        counts=torch.tensor([rows, *rejected.tolist()], dtype=torch.float32),
        rows=rows,
        keys=stack(attrgetter("keys"), num_keys, np.uint64),
        nulls=sum((piece.nulls.sum(axis=0) for piece in pieces), start=no_nulls),
        label_weights=(
            torch.from_numpy(stack(attrgetter("label_weights"), len(data.labels), np.float32))
            if data.weighs_rows
            else None
        ),
        outside_vocabulary=_outside_vocabulary(pieces, data),
    )


def _outside_vocabulary(pieces: Sequence[EncodedRows], data: Data) -> NDArray[np.int64]:
    """[V] Rows that are not rejected and have a value that a vocabulary lacks."""
    place_of_others = np.array([len(f.vocabulary) for _, f in data.one_hot_features()], np.int64)
    found = np.zeros(len(place_of_others), dtype=np.int64)
    for piece in pieces:
        usable = ~piece.rejected.any(axis=1)
        found += (piece.places[usable] == place_of_others).sum(axis=0)
    return found


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy that does not wait: memory that cannot be paged out is copied while others compute."""
    return tensor.pin_memory().to(device, non_blocking=True)


def _id_bags(
    names: list[str],
    lanes: Sequence[Sequence[EncodedRows | EncodedFeatures]],
    padding: list[int],
) -> IdBags:
    """All features' bags, feature by feature."""
    values, lengths, ids_per_feature = [np.zeros(0, dtype=np.int64)], [], []
    for feature in range(len(names)):
        num_ids = 0
        for lane, missing in zip(lanes, padding, strict=True):
            bags: list[Ragged] = [piece.ids[feature] for piece in lane]
            values += [b.values for b in bags]
            lengths += [b.lengths for b in bags] + [np.zeros(missing, dtype=np.int64)]
            num_ids += sum(len(b.values) for b in bags)
        ids_per_feature.append(num_ids)
    return IdBags(
        names=tuple(names),
        values=torch.from_numpy(np.concatenate(values)),
        lengths=torch.from_numpy(np.concatenate(lengths)),
        ids_per_feature=tuple(ids_per_feature),
    )
