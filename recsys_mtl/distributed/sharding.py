"""The embedding tables, cut over the workers by TorchRec.

Only the tables go into DistributedModelParallel; the dense part of the model is reduced by us.
TorchRec fuses the tables' optimizer into their backward: one backward is one update. So the graph
is cut at the outputs of the tables' owners: gradients of any number of tasks are taken there, and
one backward of their combination moves the tables.

B batch rows of this worker, E columns of all pooled embeddings, T tasks, W workers, K tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch import Tensor
from torchrec import EmbeddingBagCollection, KeyedJaggedTensor, KeyedTensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.comm_ops import set_gradient_division
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder

from recsys_mtl.config import Data, TableOptimizer, TableSharding
from recsys_mtl.data.batch import IdBags
from recsys_mtl.data.features import table_sizes
from recsys_mtl.distributed.collectives import made_by_first
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.distributed.embedding_gradients import OwnedFeature, OwnedShards
from recsys_mtl.distributed.planning import PlanRecord, fits, make_plan, plan_from, record_of
from recsys_mtl.distributed.torchrec_inputs import keyed_jagged, table_descriptions, table_name
from recsys_mtl.distributed.traffic import TableTraffic
from recsys_mtl.gradients.table_products import TableGradients
from recsys_mtl.model.embeddings import initial_rows

_OPTIMIZERS = {
    "rowwise_adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    "adagrad": EmbOptimType.EXACT_ADAGRAD,
    "sgd": EmbOptimType.EXACT_SGD,
}

_STATE_NAMES = {"momentum1": "accumulator"}
"""What fbgemm calls the state of Adagrad, and what our checkpoints call it."""

ShardOutputGradients = list[Tensor]
"""Per TorchRec lookup, the gradient of this worker's shard outputs for the global batch,
[W B, columns]."""


@dataclass(frozen=True, eq=False)
class Lookup:
    """One batch's pooled embeddings, and what their gradients need."""

    pooled: Tensor
    """[B, E] of this worker's rows, features in the configuration's order; the graph goes down to
    `leaves`."""
    outputs: list[Tensor]
    """What this worker's shards gave to all workers; the graph goes down to the tables."""
    leaves: list[Tensor]
    """The same, cut off."""
    ids: list[KeyedJaggedTensor]
    """The global batch's ids of this worker's shards."""
    bytes_sent: Mapping[str, int]
    """By this worker to others: `table_inputs` (ids) and `table_outputs` (embeddings)."""


class ShardedTables:
    """All embedding tables of a run, each shard on one worker, with their fused optimizer."""

    def __init__(
        self,
        data: Data,
        optimizer: TableOptimizer,
        wanted: Mapping[str, TableSharding],
        context: WorkerContext,
        seed: int,
        earlier: PlanRecord | None = None,
    ) -> None:
        """Plan, cut and fill the tables.

        Args:
            wanted: of the tables it names.
            earlier: a plan to keep to; one for other workers or devices is passed over.
        """
        # The sum of the workers' gradients is already the gradient of the global mean.
        set_gradient_division(False)
        self._features = [(name, feature.pooling == "mean") for name, feature in data.id_features()]
        self._owners = list(table_sizes(data))
        self._learning_rate, self._factor = optimizer.learning_rate, 1.0
        self._tables = EmbeddingBagCollection(
            tables=table_descriptions(data), device=torch.device("meta")
        )
        sharder = EmbeddingBagCollectionSharder(
            fused_params={
                "optimizer": _OPTIMIZERS[optimizer.kind],
                "learning_rate": optimizer.learning_rate,
                "eps": optimizer.epsilon,
            }
        )
        self.plan: PlanRecord = made_by_first(
            context.rank,
            lambda: (
                earlier
                if earlier is not None and fits(earlier, data, context)
                else record_of(make_plan(self._tables, sharder, data, wanted, context))
            ),
        )
        """Which shard of which table lies on which worker."""
        self._sharded = DistributedModelParallel(
            self._tables, device=context.device, plan=plan_from(self.plan), sharders=[sharder]
        )
        numbers = {table_name(owner): number for number, owner in enumerate(self._owners)}
        self._owned = [
            OwnedShards(features, context.device) if features else None
            for lookup in self._sharded.module._lookups
            for features in [_owned_features(lookup, numbers)]
        ]
        self._traffic = TableTraffic(data, self.plan, context)
        self._write_initial_rows(seed)

    def look_up(self, ids: IdBags, learning_rate_factor: float) -> Lookup:
        """Pooled embeddings, features side by side in the configuration's order.

        TorchRec's own order follows the plan, which changes with the number of workers.

        Args:
            ids: this worker's rows.
            learning_rate_factor: of the configured learning rate, for the `update` of what is
                returned: fbgemm's lookup hands the rate of its forward to its backward.
        """
        self._set_learning_rate(learning_rate_factor)
        module = self._sharded.module
        context = module.create_context()
        owner_ids = module.input_dist(context, keyed_jagged(ids)).wait().wait()
        outputs = module.compute(context, owner_ids)
        leaves = [output.detach().requires_grad_() for output in outputs]
        pooled = module.output_dist(context, leaves).wait()
        return Lookup(
            pooled=self._in_order(pooled, ids),
            outputs=outputs,
            leaves=leaves,
            ids=list(owner_ids),
            bytes_sent=self._traffic.of_lookup(ids, outputs),
        )

    def _in_order(self, pooled: KeyedTensor, ids: IdBags) -> Tensor:
        """[B, E] features in the configuration's order, means taken."""
        # One split: its backward is one concatenation, where 46 slices would fill and add a
        # gradient of the whole width each, 80 ms a task at 2,048 rows.
        parts = torch.split(pooled.values(), pooled.length_per_key(), dim=1)
        by_feature = dict(zip(pooled.keys(), parts, strict=True))
        columns = []
        for feature, mean in self._features:
            column = by_feature[feature]
            if mean:
                column = column / ids.bags_of(feature)[1].clamp(min=1).unsqueeze(1)
            columns.append(column)
        return torch.cat(columns, dim=1)

    def to_shards(self, lookup: Lookup, gradient: Tensor) -> ShardOutputGradients:
        """Hand a gradient of the pooled embeddings to the workers that hold the shards.

        Args:
            gradient: [B, E] of the loss for `lookup.pooled`, this worker's rows.
        """
        return list(torch.autograd.grad(lookup.pooled, lookup.leaves, gradient, retain_graph=True))

    def task_gradients(
        self, lookup: Lookup, gradients: Sequence[ShardOutputGradients]
    ) -> list[TableGradients]:
        """Every task's gradient of the rows of this worker's shards that the batch touches."""
        return [
            shards.gradients(ids, [gradient[place] for gradient in gradients])
            for place, (shards, ids) in enumerate(zip(self._owned, lookup.ids, strict=True))
            if shards is not None
        ]

    def products_by_table(
        self, lookup: Lookup, gradients: Sequence[ShardOutputGradients]
    ) -> Tensor:
        """[K, T, T] float64: products of the tasks' gradients of each table, of this worker's
        shards alone; tables in the order of the features that own them."""
        num_tasks, num_tables = len(gradients), len(self._owners)
        found = lookup.pooled.new_zeros(num_tables, num_tasks, num_tasks, dtype=torch.float64)
        for place, (shards, ids) in enumerate(zip(self._owned, lookup.ids, strict=True)):
            if shards is not None:
                at_shards = [gradient[place] for gradient in gradients]
                found += shards.products_by_table(ids, at_shards, num_tables)
        return found

    def gradient_bytes(self, batch_rows: int) -> int:
        """Bytes that one `to_shards` of so many rows sends from this worker to others."""
        return self._traffic.of_gradient(batch_rows)

    def update(
        self, lookup: Lookup, gradient: ShardOutputGradients, *, clip: Tensor | None, skip: Tensor
    ) -> None:
        """One step of the tables' optimizer.

        Args:
            gradient: where the shards lie, as `to_shards` gives it.
            clip: [] what multiplies it; None leaves it as it is.
            skip: [] bool: every row moves by nothing. A product with 0 would not do, where
                something is not finite.
        """
        if clip is not None:
            gradient = [clip.to(part.dtype) * part for part in gradient]
        torch.autograd.backward(lookup.outputs, [torch.where(skip, 0.0, g) for g in gradient])

    def _set_learning_rate(self, factor: float) -> None:
        if factor == self._factor:
            return
        self._factor = factor
        optimizer = self._sharded.fused_optimizer
        for group in optimizer.param_groups:
            group["lr"] = factor * self._learning_rate
        optimizer.step()  # hands the rate to fbgemm; the update itself is in the backward

    def state_dict(self) -> dict[str, Any]:
        """Shards by table and their optimizer's state, for torch.distributed.checkpoint.

        `tables.<feature>` is the table that a feature owns, and `<state>.tables.<feature>` what the
        optimizer keeps of it; TorchRec's names, which change with its releases, are mapped.
        """
        rows = self._sharded.state_dict()
        kept = self._sharded.fused_optimizer.state_dict()["state"]
        tensors: dict[str, Any] = {}
        for owner in self._owners:
            parameter = f"embedding_bags.{table_name(owner)}.weight"
            tensors[f"tables.{owner}"] = rows[parameter]
            for key, state in kept.get(parameter, {}).items():
                tensors[f"{_STATE_NAMES[key.rpartition('.')[2]]}.tables.{owner}"] = state
        return tensors

    def num_parameters(self) -> int:
        """Numbers in all tables together."""
        return sum(c.num_embeddings * c.embedding_dim for c in self._configs())

    def _configs(self) -> list[Any]:
        return list(self._tables.embedding_bag_configs())

    def _write_initial_rows(self, seed: int) -> None:
        weights = self._sharded.state_dict()
        for index, config in enumerate(self._configs()):
            for shard in weights[f"embedding_bags.{config.name}.weight"].local_shards():
                (row, column), (rows, columns) = (
                    shard.metadata.shard_offsets,
                    shard.metadata.shard_sizes,
                )
                drawn = initial_rows(
                    seed=seed,
                    table=index,
                    total_rows=config.num_embeddings,
                    dim=config.embedding_dim,
                    start=row,
                    stop=row + rows,
                )
                shard.tensor.detach().copy_(drawn[:, column : column + columns])


def table_products(
    gradients: Sequence[TableGradients], num_tasks: int, device: torch.device
) -> Tensor:
    """[T, T] float64: the tables' part of the Gram, of this worker's shards alone."""
    own = torch.zeros(num_tasks, num_tasks, dtype=torch.float64, device=device)
    for shards in gradients:
        own += shards.products()
    return own


def _owned_features(lookup: Any, numbers: Mapping[str, int]) -> list[OwnedFeature]:
    """What a TorchRec lookup holds here, in the order of its input's keys and output's columns.

    Args:
        numbers: TorchRec's name of a table to its number.
    """
    tables = [table for group in lookup.grouped_configs for table in group.embedding_tables]
    features, first_row = [], 0
    for table in tables:
        feature = OwnedFeature(first_row, table.local_cols, numbers[table.name])
        features += [feature] * len(table.feature_names)
        first_row += table.local_rows
    return features
